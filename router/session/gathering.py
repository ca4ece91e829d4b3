"""Reads that are answered in one database, on copies of the rows they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from router.gather.plan import GatherPlan, Reading, plan_gather
from router.gather.run import gathered, is_in_memory, merge_engine
from router.hooks.buffering import buffered, buffering
from router.hooks.mappers import is_orm
from router.hooks.statements import resolved
from router.hooks.transaction import lend
from router.route.circumstances import Circumstances
from router.route.facts import Facts
from router.route.parameters import Parameters
from router.route.shape import Shape
from router.route.tiers import locking
from router.session.entities import Entities, has_entities
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing

Read = tuple[Facts, Shape, Parameters]


class Gathering:
    """The gathered reads of one session."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring
        self._entities = Entities(routing)

    def execute(self, execution: Execution) -> Any:
        """Execute a read on copies of its tables, and return its rows."""
        statement = resolved(execution.statement)
        facts, shape, parameters = self._wiring.planner.facts(statement, execution.params)
        if shape.locks:
            raise locking(shape).exception()
        if shape.tokens and self._gives_told_apart(statement, facts):
            return self._entities.execute(execution, statement, self._gather)
        return self._gather(execution, (facts, shape, parameters))

    def _gives_told_apart(self, statement: Any, facts: Facts) -> bool:
        """Return whether objects are loaded whose primary key does not name their shard."""
        if not is_orm(statement):
            return False
        eager = facts.trace.joins_eagerly and has_entities(statement)
        return eager or has_entities(statement, self._wiring.tells_apart)

    def _gather(self, execution: Execution, read: Read | None = None) -> Any:
        statement, session = resolved(execution.statement), self._routing.session
        if is_orm(statement) and execution.options.get("autoflush", True):
            # What follows reads the rows before the ORM would have flushed.
            session._autoflush()
        around = self._routing.circumstances(statement, execution.options, execution.arguments)
        plan = self.plan(read or self._wiring.planner.facts(statement, execution.params), around)
        engine = merge_engine(self._wiring.engines[plan.host])
        with gathered(plan, engine, session._connection_to) as connection, lend(connection):
            return self._run(execution, connection)

    def plan(self, read: Read, around: Circumstances) -> GatherPlan:
        """Return how a statement that was read would be gathered now."""
        facts, shape, parameters = read
        reading = Reading(facts, shape, parameters, self._wiring.binds, around)
        return plan_gather(reading, self._wiring.backend, self._is_touched)

    @staticmethod
    def _run(execution: Execution, connection: Any) -> Any:
        # Rows that would be read later would find the copies gone.
        result = execution.run(
            execution.statement,
            execution.params,
            execution_options={
                **buffering(execution.options),
                **connection.get_execution_options(),
            },
            bind_arguments={**execution.arguments, "bind": connection},
            **execution.extra,
        )
        return buffered(result)

    def _is_touched(self, database: str) -> bool:
        """Return whether the session sees rows of `database` that others may not see."""
        engine: Engine = self._wiring.engines[database]
        if is_in_memory(engine):
            return True
        transaction: Any = self._routing.session.get_transaction()
        if transaction is None:
            return False
        if engine in transaction.wrote:
            return True
        # Where a transaction keeps its first view of the data, only its own connection has it.
        isolated = "isolation_level" in self._wiring.shard_map.databases[database].engine
        keeps = engine.dialect.name != "postgresql" or isolated
        return keeps and bool(transaction.has_connection(engine))
