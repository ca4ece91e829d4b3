"""Reads that every shard answers for its own rows, and whose answers are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from router.execute.parallel import Order, run_all
from router.hooks.statements import resolved
from router.merge.merged import merge
from router.rewrite.decompose import Decomposition, decompose
from router.rewrite.terms import Terms, TextOrder, Undecomposable
from router.route.facts import Facts
from router.route.regions import ColumnRef
from router.route.shape import Constraint
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

    def execute(self, execution: Execution, target: Target, *, tokens: bool) -> Any:
        """Execute a read on every shard and return the merged rows; None if that is not exact."""
        order = self._text_order(execution, target)
        if order is None:
            return None
        found = decomposed(self._wiring, execution.statement, execution.params, target, order)
        if isinstance(found, Undecomposable):
            return None
        return self._run(found, execution, target, tokens=tokens)

    def _text_order(self, execution: Execution, target: Target) -> TextOrder | None:
        """Return how the shards compare text; None if they differ, or tell equal texts apart."""
        facts = self._wiring.planner.facts(execution.statement, execution.params)[0]
        tables = dict.fromkeys(one.table for one in facts.occurrences)
        connect = self._routing.session._connection_to

        def ask(database: str) -> TextOrder | None:
            return self._wiring.collations.order(connect(database), tables)

        calls = [partial(ask, at.database) for at in target.destinations]
        found = set(run_all(calls, target.destinations))
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
        order, seconds = Order.of(found.statement), execution.seconds
        return merge(run_all(calls, target.destinations, order=order, seconds=seconds), found)


def decomposed(
    wiring: Wiring, statement: Any, params: Any, target: Target, order: TextOrder
) -> Decomposition | Undecomposable:
    """Return the statement for every shard and its merge, or why there is none."""
    facts, shape, parameters = wiring.planner.facts(statement, params)
    kinds = {wiring.backend(at.database) for at in target.destinations}
    if len(kinds) > 1 or shape.spread is None:
        return Undecomposable("the shards are databases of different kinds")
    terms = Terms.of(kinds.pop(), order, holds_key(facts, shape.spread))
    return decompose(resolved(statement), parameters.given or None, terms)


def holds_key(facts: Facts, spread: Constraint) -> Callable[[Sequence[Any]], bool]:
    """Return the test of whether expressions contain the key that the shards are chosen by."""
    classes = facts.root.classes()
    joined = list(facts.root.joined())
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
