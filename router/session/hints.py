"""Ways for a statement to say where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.interfaces import UserDefinedOption

from router.errors import RoutingError

if TYPE_CHECKING:
    from router.shardmap.model import Scatter


class OnShard(UserDefinedOption):
    """Sends a statement, and the relationship loads of what it loads, to one shard."""

    propagate_to_loaders = True

    def __init__(self, shard: str) -> None:
        super().__init__(shard)


def on_shard(shard: str) -> OnShard:
    """Return a statement option that names the shard, written ``keyspace/shard``.

    >>> session.scalars(select(Order).options(on_shard("shop/s0")))

    Lazy and eager loads of relationships within the keyspace go there, too.
    """
    return OnShard(shard)


def scatter_option(statement: Any, options: Mapping[str, Any]) -> Scatter | None:
    """Return the execution option ``scatter`` of a call or statement: "allow" or "deny".

    Raises
    ------
    RoutingError
        It is something else.
    """
    value = options.get("scatter")
    if value is None:
        value = getattr(statement, "_execution_options", options).get("scatter")
    if value is None:
        return None
    from router.shardmap.model import Scatter

    try:
        return Scatter(value)
    except ValueError as error:
        what = f"the execution option scatter is {value!r}"
        raise RoutingError("R206", what, fix='say "allow" or "deny"') from error


def hinted_shard(statement: Any) -> str | None:
    """Return the shard that an `on_shard` option of `statement` names."""
    for option in getattr(statement, "_with_options", ()):
        if isinstance(option, OnShard):
            return str(option.payload)
    return None
