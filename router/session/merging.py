"""Reads that every shard answers for its own rows, and whose answers are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from router.execute.parallel import Order, run_all
from router.hooks.statements import resolved
from router.merge.merged import merge
from router.rewrite.decompose import Decomposition, decompose
from router.rewrite.terms import Terms, Undecomposable
from router.route.facts import Facts
from router.route.regions import ColumnRef
from router.route.shape import Constraint, Shape
from router.route.target import Target
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing


class Merging:
    """The merged reads of one session."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring

    def execute(self, execution: Execution, target: Target, *, tokens: bool) -> Any:
        """Execute a read on every shard and return the merged rows; None if that is not exact."""
        found = self.decomposed(execution.statement, execution.params, target)
        if isinstance(found, Undecomposable):
            return None
        return self._run(found, execution, target, tokens=tokens)

    def decomposed(
        self, statement: Any, params: Any, target: Target
    ) -> Decomposition | Undecomposable:
        """Return the statement for every shard and its merge, or why there is none."""
        facts, shape, parameters = self._wiring.planner.facts(statement, params)
        databases = [self._wiring.shard_map.databases[at.database] for at in target.destinations]
        kinds = {database.url.get_backend_name() for database in databases}
        if len(kinds) > 1 or shape.spread is None:
            return Undecomposable("the shards are databases of different kinds")
        tables = dict.fromkeys(one.table for one in facts.occurrences)
        connect = self._routing.session._connection_to
        connections = run_all(
            [partial(connect, at.database) for at in target.destinations], target.destinations
        )
        orders = {self._wiring.collations.order(one, tables) for one in connections}
        order = orders.pop()
        if orders or order is None:
            return Undecomposable("the shards compare text differently")
        terms = Terms.of(kinds.pop(), order, holds_key(facts, shape.spread))
        return decompose(resolved(statement), parameters.given or None, terms)

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
