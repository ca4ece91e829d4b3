"""One flush of one session: which database each row is written to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.orm import InstanceState, Mapper

from router.errors import RouterError, RoutingError
from router.execute.copies import compare_copies
from router.execute.parallel import run_all
from router.hooks.flush import Parts, is_deleted
from router.hooks.row_handlers import check_last
from router.route.binds import Binding, ReferenceTable, ShardedTable
from router.route.target import Destination
from router.session import expressions
from router.session.keeping import Keeping
from router.session.moving import Moves, refuse_reused_keys
from router.session.proving import Proofs
from router.session.rows import KeysOfRows, prepare
from router.session.states import Placement, is_changed
from router.session.unique import untold
from router.shardmap.functions.protocol import Key

if TYPE_CHECKING:
    from router.session.routing import Routing

_UNKNOWN = -1


class _Placed(NamedTuple):
    """Where a row is written, and the key attributes that said so."""

    key: tuple[Any, ...]
    destination: Destination
    is_new: bool


class Flushing:
    """Implements `router.hooks.flush.FlushRouting` for one flush."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring
        self._connections: dict[str, Connection] = {}
        self._placed: dict[InstanceState[Any], _Placed] = {}
        # The rows of reference tables whose copies have to be brought in step.
        self.changed: set[InstanceState[Any]] = set()
        self.context: Any = None
        self._moves = Moves(self)
        guard = routing.pins.guard
        self._proofs = Proofs(self, guard.only) if guard is not None else None
        self.unique = routing.unique
        self._keeping = Keeping(self) if routing.unique is not None else None

    @property
    def routing(self) -> Routing:
        """The routing of the session that flushes."""
        return self._routing

    @property
    def session(self) -> Any:
        """The session that flushes."""
        return self._routing.session

    # -- rows ------------------------------------------------------------------------------

    def connection_for(self, mapper: Mapper[Any], state: InstanceState[Any]) -> Connection:
        """Return the connection of the database where the row of `state` is written."""
        destination = self._place(state)
        if state.key is not None and destination.shard is not None:
            home = self._home(state)
            if home != destination:
                self._moves.carry(state, home, destination)
        self.look_at(state, destination)
        new = destination.shard is not None and state.key is None
        if new and self._wiring.needs_token(mapper.class_):
            self._routing.tell_shards_apart()
            state.identity_token = destination.shard
        connection = self._connections.get(destination.database)
        return connection or self.connection(destination.database)

    def look_at(self, state: InstanceState[Any], place: Destination | None = None) -> None:
        """Raise if the database of a row would compute a value for it that others know."""
        placement = self._wiring.states.placement(state.manager.mapper)
        if not placement.defaults_look_elsewhere and not expressions.gives_sql(state):
            return
        if self._wiring.planner.only is not None:
            # There are no others.
            return
        if not is_deleted(self.context, state):
            expressions.check(self._routing, state, placement, place or self._place(state))

    def rank(self, state: InstanceState[Any], mapper: Mapper[Any]) -> int:
        """Return the position of the row's database among all; -1 if not known yet."""
        try:
            return self._wiring.ranks[self._place(state).database]
        except RouterError:
            return _UNKNOWN

    def overlaps(self, parts: Parts) -> bool:
        """Return whether databases may insert their rows at the same time.

        Not where one row writes to several, or another flush could wait for this one and this
        one for it, and nobody would notice: see `router.deadlocks`.
        """
        if self._keeping is not None or _UNKNOWN in parts:
            return False
        engines = self._wiring.engines
        return all(engines[name].dialect.driver == "psycopg" for name in self._names(parts))

    def side_by_side(self, calls: Mapping[int, Callable[[], None]]) -> None:
        """Make one call for each database, by its rank."""
        places = [Destination(name) for name in self._names(calls)]
        enlist = self._routing.writes.enlist
        # The ORM asks for its connections where no two lanes may be at once.
        run_all([partial(enlist, one.database) for one in places], places)
        for one in places:
            self.connection(one.database)
        run_all(list(calls.values()), places)

    def _names(self, ranks: Iterable[int]) -> list[str]:
        names = list(self._wiring.ranks)
        return [names[rank] for rank in ranks]

    def prepare(self, mapper: Mapper[Any]) -> None:
        """Get ready to write rows of `mapper`; once per router."""
        if mapper not in self._wiring.prepared:
            prepare(mapper, self._wiring.states.placement(mapper))
            self._wiring.prepared.add(mapper)
        check_last(mapper, _look_again)

    def expect(self, states: Iterable[InstanceState[Any]]) -> None:
        """Ask directories once for the keys of all rows, not for each row."""
        if self._keeping is not None:
            self._keeping.expect()
        states = list(states)
        moved = [one for one in states if one.key is not None and self._leaves(one)]
        refuse_reused_keys(states, moved)
        if self._routing.directories is None:
            return
        keys = KeysOfRows()
        for state in states:
            keys.add(state, self._wiring.states.placement(state.manager.mapper))
        for name, wanted in keys.new.items():
            self._routing.directories.claim_all(self._wiring.sharded(name), self._own(name, wanted))
        for name, wanted in keys.old.items():
            self._routing.directories.confirm(self._wiring.sharded(name), self._own(name, wanted))

    def _own(self, keyspace: str, keys: list[Key]) -> list[Key]:
        return keys if self._proofs is None else self._proofs.own(keyspace, keys)

    def _leaves(self, state: InstanceState[Any]) -> bool:
        """Return whether the row of `state` is about to move to another database."""
        placement = self._wiring.states.placement(state.manager.mapper)
        if not isinstance(placement.binding, ShardedTable) or not is_changed(state, placement):
            return False
        try:
            return self._place(state) != self._home(state)
        except RouterError:
            # It is reported where the row is written.
            return False

    def verify(self) -> None:
        """Raise if an event handler changed the key of a row after its shard was chosen."""
        for state, placed in self._placed.items():
            placement = self._wiring.states.placement(state.manager.mapper)
            changed = placed.is_new or is_changed(state, placement)
            if changed and placement.raw(state) != placed.key:
                what = f"the shard key of {state.mapper} was changed during the flush"
                fix = "set the key in __init__ or a before_flush handler, not in before_insert"
                raise RoutingError("R203", what, fix=fix)
        self._moves.finish()
        if self._keeping is not None:
            self._keeping.finish()

    def end(self) -> None:
        """Let go of the flush, and of what holds this."""
        self.context = None
        self._keeping = self._proofs = None
        del self._moves

    def binding_of(self, table: Table) -> Binding:
        """Return how a table is bound."""
        return self._wiring.binds.of_table(table)

    def connection_of(self, state: InstanceState[Any]) -> Connection:
        """Return the connection on which the row of `state` was written."""
        return self.connection(self._place(state).database)

    def binding(self, mapper: Mapper[Any]) -> Binding:
        """Return how the rows of `mapper` are bound."""
        return self._wiring.states.placement(mapper).binding

    def _place(self, state: InstanceState[Any]) -> Destination:
        placement = self._wiring.states.placement(state.manager.mapper)
        raw = placement.raw(state)
        placed = self._placed.get(state)
        if placed is not None and placed.key == raw:
            return placed.destination
        destination = self._destination(state, placement)
        if None in raw:
            # The key may have been given by a default only now.
            raw = placement.raw(state)
        self._placed[state] = _Placed(raw, destination, state.key is None)
        return destination

    def connection(self, database: str) -> Connection:
        """Return the session's connection to `database`, which is about to be written to."""
        found = self._connections.get(database)
        if found is None:
            self._routing.writes.note(database)
            found = self._routing.session._connection_to(database)
            self._connections[database] = found
        return found

    def _destination(self, state: InstanceState[Any], placement: Placement) -> Destination:
        binding = placement.binding
        routing = self._routing
        if isinstance(binding, ShardedTable):
            states = self._wiring.states
            if self._proofs is not None:
                # Before a directory is asked to place a key.
                self._proofs.admit(state, placement)
            moves = is_changed(state, placement) and not is_deleted(self.context, state)
            if state.key is None or moves:
                shard = states.destined(state, placement, routing.claim)
            else:
                shard = states.shard(state, placement, routing.locate)
            routing.pins.check(binding.keyspace, shard)
            if self._proofs is not None:
                self._proofs.prove(state, binding.keyspace.shards[shard])
            return self._wiring.shard_destination(binding.keyspace, shard)
        if routing.pins:
            if isinstance(binding, ReferenceTable) and self._is_untouched(state):
                # The ORM asks for its place all the same: of a changed collection, for one.
                return Destination(routing.pins.databases()[0])
            routing.pins.refuse(f"a row of {binding.table.fullname}")
        if isinstance(binding, ReferenceTable):
            return Destination(binding.databases[0])
        return Destination(binding.keyspace.database)

    def _is_untouched(self, state: InstanceState[Any]) -> bool:
        """Return whether a persistent row will stay as it is."""
        if state.key is None or is_deleted(self.context, state):
            return False
        return not self.session.is_modified(state.obj(), include_collections=False)

    def _home(self, state: InstanceState[Any]) -> Destination:
        """Return where the row of a persistent object is."""
        placement = self._wiring.states.placement(state.manager.mapper)
        binding = placement.binding
        if not isinstance(binding, ShardedTable) or not is_changed(state, placement):
            return self._placed[state].destination
        shard = self._wiring.states.shard(state, placement, self._routing.locate)
        self._routing.pins.check(binding.keyspace, shard)
        return self._wiring.shard_destination(binding.keyspace, shard)

    # -- association tables ----------------------------------------------------------------

    def connection_for_table(self, mapper: Mapper[Any]) -> Association:
        """Return what executes the statements on association tables."""
        return Association(self, self._routing)


def _look_again(state: InstanceState[Any]) -> None:
    """Look at a row's values after the handlers of the application have seen it."""
    flushing: Flushing | None = getattr(state.session, "_flush_routing", None)
    # The handler stays with the mapper, whose objects other sessions flush, too.
    if flushing is not None:
        flushing.look_at(state)


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
            results = [
                self._flushing.connection(database).execute(statement, list(rows))
                for database in databases
            ]
            counts.add(results[0])
            for database, result in zip(databases[1:], results[1:], strict=True):
                compare_copies(statement.table, results[0], result, database)
        return counts

    def _databases(self, statement: Any, row: Mapping[str, Any]) -> tuple[str, ...]:
        around = self._routing.circumstances(statement)
        target, _ = self._routing.wiring.planner.target(statement, dict(row), around)
        if target.refusal is not None:
            raise target.refusal.exception()
        if self._routing.unique is not None and self._routing.unique.of(statement):
            raise untold(f"rows of association table {statement.table.fullname}")
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
