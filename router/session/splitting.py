"""Writes that reach several shards: the rows of each to each, or the statement to all.

The parts of an INSERT run side by side.  What locks rows that others may have locked visits
the databases in the order of the map, so that two sessions never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Insert, Result

from router.execute.parallel import Order, run_all
from router.hooks.colour import in_greenlet
from router.hooks.dml import given_rows, with_rows
from router.hooks.evaluation import Strategy, strategy_of
from router.hooks.mappers import subject_of
from router.hooks.statements import on_conflict, resolved
from router.hooks.written import written
from router.route.target import Destination, Split, Target, Tier
from router.session.constants import Constants
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing

Call = Callable[..., Any]

MANY_ROWS = 500
"""From how many rows on sending them takes longer than waiting for the databases."""


class Splitting:
    """The writes of one session that reach several databases."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring
        self._constants = Constants(routing)

    def execute(self, execution: Execution, target: Target) -> Any:
        """Execute a write on every destination of `target`, and return one result."""
        statement = resolved(execution.statement)
        options = execution.flushed(self._routing.session)
        places = sorted(target.destinations, key=lambda one: self._wiring.ranks[one.database])
        execution = self._constants.bound(execution.of(statement), places[0])
        if target.tier is Tier.SPLIT and target.split is not None:
            return self._split(execution, places, target.split, options)
        return self._fanned(execution, places, options)

    # -- the rows of each ------------------------------------------------------------------

    def _split(
        self, execution: Execution, places: Sequence[Destination], split: Split, options: Any
    ) -> Any:
        statement, params = execution.statement, execution.params
        positions = [split.parts[one.database] for one in places]
        if isinstance(params, (list, tuple)):
            parts = [{"params": [params[at] for at in part]} for part in positions]
        else:
            rows = given_rows(statement)
            parts = [{"statement": with_rows(statement, [rows[at] for at in p])} for p in positions]
        token = self._needs_token(statement)
        calls = [
            partial(execution.write_on, one, self._routing, token=token, **part, **options)
            for one, part in zip(places, parts, strict=True)
        ]
        order = self._order(statement, places, sum(map(len, positions)))
        results = self.run(calls, places, order, execution.seconds)
        return written(results, positions if isinstance(statement, Insert) else None)

    def _order(self, statement: Any, places: Sequence[Destination], rows: int) -> Order:
        if not isinstance(statement, Insert) or on_conflict(statement) is not None:
            return Order.FIXED
        # psycopg sends row after row in Python: threads that do so at once are in each other's way.
        driver = self._wiring.engines[places[0].database].dialect.driver
        busy = driver == "psycopg" and rows > MANY_ROWS and not in_greenlet()
        return Order.FIXED if busy else Order.ANY

    # -- the statement to all --------------------------------------------------------------

    def _fanned(
        self, execution: Execution, places: Sequence[Destination], options: dict[str, Any]
    ) -> Any:
        statement = execution.statement
        token = self._needs_token(statement)
        first, others = self._synchronising(execution, token=token)
        modes = [first, *(others for _ in places[1:])]
        calls = [
            partial(execution.write_on, one, self._routing, token=token, **options, **mode)
            for one, mode in zip(places, modes, strict=True)
        ]
        return written(self.run(calls, places, Order.FIXED, execution.seconds))

    def _synchronising(
        self, execution: Execution, *, token: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the options for the first shard and for the others.

        Evaluating looks at all objects of the session, which is done once; fetching only at
        those whose rows one shard has changed.
        """
        statement = execution.statement
        mapper = subject_of(statement)
        if mapper is None or token or isinstance(statement, Insert):
            return {}, {}
        how = strategy_of(statement, mapper, execution.options)
        others = Strategy.NONE if how is Strategy.EVALUATE else how
        return {"synchronize_session": how.value}, {"synchronize_session": others.value}

    # -- both ------------------------------------------------------------------------------

    def run(
        self,
        calls: Sequence[Call],
        places: Sequence[Destination],
        order: Order,
        seconds: float | None = None,
    ) -> list[Any]:
        """Make the parts of a write; if one fails, the transaction cannot commit."""
        for one in places:
            self._routing.writes.note(one.database)
        connect = self._routing.session._connection_to
        # The ORM asks for its connections where no two lanes may be at once.
        run_all([partial(connect, one.database) for one in places], places, seconds=seconds)
        with self._routing.writes.tearing_shards():
            return run_all(calls, places, order=order, seconds=seconds, undo=Result.close)

    def _needs_token(self, statement: Any) -> bool:
        mapper = subject_of(statement)
        needs = mapper is not None and self._routing.wiring.tells_apart(mapper)
        if needs:
            self._routing.tell_shards_apart()
        return needs
