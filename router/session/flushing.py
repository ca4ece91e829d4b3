"""One flush of one session: which database each row is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, event
from sqlalchemy.orm import InstanceState, Mapper, object_session

from router.errors import CrossShardError, RouterError, RoutingError
from router.execute.copies import copy_row
from router.hooks.flush import sort_by_database
from router.route.binds import ReferenceTable, ShardedTable
from router.route.target import Destination, Reach
from router.session.states import Placement

if TYPE_CHECKING:
    from router.session.routing import Routing

_UNKNOWN = -1


class Flushing:
    """Implements `router.hooks.flush.FlushRouting` for one flush."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring
        self._connections: dict[str, Connection] = {}
        self._placed: dict[InstanceState[Any], tuple[Any, Destination]] = {}

    # -- rows ------------------------------------------------------------------------------

    def connection_for(self, mapper: Mapper[Any], state: InstanceState[Any]) -> Connection:
        """Return the connection of the database where the row of `state` is written."""
        destination = self._place(state)
        new = destination.shard is not None and state.key is None
        if new and self._routing.needs_token(mapper.class_):
            self._routing.tell_shards_apart()
            state.identity_token = destination.shard
        connection = self._connections.get(destination.database)
        return connection or self.connection(destination.database)

    def rank(self, state: InstanceState[Any], mapper: Mapper[Any]) -> int:
        """Return the position of the row's database among all; -1 if not known yet."""
        try:
            return self._wiring.ranks[self._place(state).database]
        except RouterError:
            return _UNKNOWN

    def prepare(self, mapper: Mapper[Any]) -> None:
        """Get ready to write rows of `mapper`; once per router."""
        if mapper not in self._wiring.prepared:
            prepare(mapper, self._wiring.states.placement(mapper))
            self._wiring.prepared.add(mapper)

    def verify(self) -> None:
        """Raise if an event handler changed the key of a row after its shard was chosen."""
        for state, (before, _) in self._placed.items():
            placement = self._wiring.states.placement(state.manager.mapper)
            if state.key is None and placement.raw(state) != before:
                what = f"the shard key of a new {state.mapper} was changed during the flush"
                fix = "set the key in __init__ or a before_flush handler, not in before_insert"
                raise RoutingError("R203", what, fix=fix)

    def _place(self, state: InstanceState[Any]) -> Destination:
        placement = self._wiring.states.placement(state.manager.mapper)
        raw = placement.raw(state)
        placed = self._placed.get(state)
        if placed is not None and placed[0] == raw:
            return placed[1]
        destination = self._destination(state, placement)
        # The key may have been given by a default only now.
        self._placed[state] = (placement.raw(state), destination)
        return destination

    def connection(self, database: str) -> Connection:
        """Return the session's connection to `database`, which is about to be written to."""
        found = self._connections.get(database)
        if found is None:
            self._routing.note_write(database)
            found = self._routing.session._connection_to(database)
            self._connections[database] = found
        return found

    def _destination(self, state: InstanceState[Any], placement: Placement) -> Destination:
        binding = placement.binding
        routing = self._routing
        if isinstance(binding, ShardedTable):
            shard = self._wiring.states.shard(state, placement, routing.locate)
            routing.check_partition(binding.keyspace, shard)
            return self._wiring.shard_destination(binding.keyspace, shard)
        routing.refuse_outside(f"a row of {binding.table.fullname}")
        if isinstance(binding, ReferenceTable):
            return Destination(binding.databases[0])
        return Destination(binding.keyspace.database)

    # -- association tables ----------------------------------------------------------------

    def connection_for_table(self, mapper: Mapper[Any]) -> Association:
        """Return what executes the statements on association tables."""
        return Association(self, self._routing)


class Association:
    """Routes the rows of a relationship's `secondary` table, in batches per database."""

    def __init__(self, flushing: Flushing, routing: Routing) -> None:
        self._flushing = flushing
        self._routing = routing

    def execute(self, statement: Any, params: Sequence[Mapping[str, Any]] | None = None) -> Any:
        """Execute an INSERT, UPDATE or DELETE for each row of `params` where it belongs."""
        batches: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in params or ():
            batches.setdefault(self._databases(statement, row), []).append(row)
        counts = _Counts()
        for databases, rows in batches.items():
            for number, database in enumerate(databases):
                result = self._flushing.connection(database).execute(statement, list(rows))
                if number == 0:
                    counts.add(result)
        return counts

    def _databases(self, statement: Any, row: Mapping[str, Any]) -> tuple[str, ...]:
        around = self._routing.circumstances()
        target, _ = self._routing.wiring.planner.target(statement, dict(row), around)
        if target.reach is Reach.REFUSED and target.refusal is not None:
            raise target.refusal.exception()
        return tuple(one.database for one in target.destinations)


class _Counts:
    """The row counts of several statements, as the ORM asks a result for them."""

    def __init__(self) -> None:
        self.rowcount = 0
        self._sane = True

    def add(self, result: Any) -> None:
        self.rowcount += result.rowcount
        self._sane = self._sane and result.supports_sane_multi_rowcount()

    def supports_sane_multi_rowcount(self) -> bool:
        return self._sane

    def supports_sane_rowcount(self) -> bool:
        return self._sane


# -- mappers -------------------------------------------------------------------------------


def prepare(mapper: Mapper[Any], placement: Placement) -> None:
    """Make flushes of `mapper` batch by database, and copy the rows of a reference table."""
    sort_by_database(mapper)
    if not isinstance(placement.binding, ReferenceTable) or event.contains(
        mapper, "after_insert", _copy_inserted
    ):
        return
    if any(relationship.post_update for relationship in mapper.relationships):
        what = f"{mapper} is a reference table with a post_update relationship"
        raise CrossShardError("R308", what, fix="remove post_update from the relationship")
    event.listen(mapper, "after_insert", _copy_inserted)
    event.listen(mapper, "after_update", _copy_updated)
    event.listen(mapper, "after_delete", _copy_deleted)


def _copy_inserted(mapper: Mapper[Any], connection: Connection, instance: Any) -> None:
    _copy(mapper, connection, instance, mapper.primary_key_from_instance(instance), None)


def _copy_updated(mapper: Mapper[Any], connection: Connection, instance: Any) -> None:
    session: Any = object_session(instance)
    if session is not None and session.is_modified(instance, include_collections=False):
        new = mapper.primary_key_from_instance(instance)
        _copy(mapper, connection, instance, new, instance._sa_instance_state.key[1])


def _copy_deleted(mapper: Mapper[Any], connection: Connection, instance: Any) -> None:
    _copy(mapper, connection, instance, None, instance._sa_instance_state.key[1])


def _copy(mapper: Mapper[Any], connection: Connection, instance: Any, key: Any, old: Any) -> None:
    flushing = getattr(object_session(instance), "_flush_routing", None)
    if flushing is None:
        return
    binding = flushing._wiring.states.placement(mapper).binding
    others = [flushing.connection(name) for name in binding.databases[1:]]
    tables = [table for table in mapper.tables if isinstance(table, Table)]
    copy_row(tables, key, old, connection, others)
