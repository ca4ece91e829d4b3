"""A plain SELECT on several shards, which are asked side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Result

from router.execute.parallel import Order, run_all
from router.hooks.statements import cache_key, resolved, with_value
from router.route.target import Narrowing, Target

Call = Callable[..., Any]


def fan_out(
    statement: Any,
    params: Any,
    target: Target,
    calls: Sequence[Call],
    seconds: float | None = None,
) -> list[Any]:
    """Execute on every destination of `target` and return the results, in their order.

    Each shard has `seconds` to answer.  Reads that lock rows visit the shards in the order of
    the map, so that two sessions take their locks in the same order.
    """
    parts = [
        partial(call, **_part(statement, params, target.narrowing, destination.database))
        for destination, call in zip(target.destinations, calls, strict=True)
    ]
    order = Order.of(statement)
    return run_all(parts, target.destinations, order=order, seconds=seconds, undo=Result.close)


def _part(
    statement: Any, params: Any, narrowing: Narrowing | None, database: str
) -> dict[str, Any]:
    """Return the statement and parameters with only those keys that belong to `database`."""
    if narrowing is None:
        return {}
    keys = narrowing.parts.get(database, [])
    if isinstance(params, (list, tuple)):
        params = params[0] if params else None
    if params and narrowing.name in params:
        return {"params": {**params, narrowing.name: keys}}
    statement = resolved(statement)
    _, binds, given = cache_key(statement)
    bind = binds[narrowing.index]
    if bind.key in given:
        return {"statement": statement.params({bind.key: keys})}
    return {"statement": with_value(statement, bind, keys)}
