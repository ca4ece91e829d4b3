"""Reads that every shard answers for its own rows, and whose answers are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Result

from router.execute.parallel import Order, run_all
from router.hooks.statements import resolved
from router.merge.merged import merge
from router.rewrite.decompose import Decomposition, decompose
from router.rewrite.terms import Terms, TextOrder, Undecomposable
from router.route.facts import Facts
from router.route.regions import ColumnRef
from router.route.shape import Constraint, Shape
from router.route.target import Target
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing
    from router.session.wiring import Wiring


class Merging:
    """The merged reads of one session."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring

    def execute(self, execution: Execution, target: Target, shape: Shape, *, tokens: bool) -> Any:
        """Execute a read on every shard and return the merged rows; None if that is not exact."""
        order = self._text_order(shape, target, execution)
        if order is None:
            return None
        found = decomposed(self._wiring, execution.statement, execution.params, target, order)
        if isinstance(found, Undecomposable):
            return None
        return self._run(found, execution, target, tokens=tokens)

    def _text_order(self, shape: Shape, target: Target, execution: Execution) -> TextOrder | None:
        """Return how the shards compare text; None if they differ, or tell equal texts apart."""
        connect = self._routing.session._connection_to
        readers = self._routing.readers
        if readers is not None and execution.reading is not None:
            # A connection to the primary would have the whole transaction read there.
            connect = readers.connection
        engines, collations = self._wiring.engines, self._wiring.collations
        found = {
            collations.order(engines[name], shape.tables, partial(connect, name))
            for name in dict.fromkeys(at.database for at in target.destinations)
        }
        return found.pop() if len(found) == 1 else None

    def _run(
        self, found: Decomposition, execution: Execution, target: Target, *, tokens: bool
    ) -> Any:
        routing = self._routing
        options = execution.flushed(routing.session)
        calls = [
            partial(
                execution.on,
                at,
                routing,
                token=tokens,
                statement=found.statement,
                params=found.params,
                **options,
            )
            for at in target.destinations
        ]
        results = run_all(
            calls,
            target.destinations,
            order=Order.of(found.statement),
            seconds=execution.seconds,
            undo=Result.close,
        )
        return merge(results, found)


def decomposed(
    wiring: Wiring, statement: Any, params: Any, target: Target, order: TextOrder
) -> Decomposition | Undecomposable:
    """Return the statement for every shard and its merge, or why there is none."""
    kinds = {wiring.backend(at.database) for at in target.destinations}
    if len(kinds) > 1:
        return Undecomposable("the shards are databases of different kinds")
    shape, parameters = wiring.planner.shape(statement, params)
    if shape.spread is None:
        return Undecomposable("its tables are not split in the same way")
    spread = shape.spread

    @cache
    def test() -> Callable[[Sequence[Any]], bool]:
        return holds_key(wiring.planner.facts(statement, params)[0], spread)

    terms = Terms.of(kinds.pop(), order, lambda found: bool(found) and test()(found))
    return decompose(resolved(statement), parameters.given or None, terms)


def holds_key(facts: Facts, spread: Constraint) -> Callable[[Sequence[Any]], bool]:
    """Return the test of whether expressions contain the key that the shards are chosen by."""
    classes = facts.root.classes()
    joined = facts.root.joined()
    keys = [
        {classes.find(ColumnRef(one.number, name)) for name in spread.key}
        for one in facts.occurrences
        if one.region in joined and one.table.fullname in spread.tables
    ]

    def check(expressions: Sequence[Any]) -> bool:
        found = (facts.environment.find(one) for one in expressions)
        known = {classes.find(one) for one in found if one is not None}
        return any(key <= known for key in keys)

    return check
