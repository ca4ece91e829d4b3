"""What a session writes: which databases take part, and where bulk operations go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, inspect
from sqlalchemy.orm import Mapper

from router.errors import CrossShardError
from router.hooks.mappers import is_named_by
from router.route.binds import Binding, ReferenceTable, ShardedTable, UnshardedTable
from router.route.outside import outside
from router.route.rows import homes_of_rows
from router.session.branches import can_prepare
from router.session.states import Placement, refuse_moved

if TYPE_CHECKING:
    from router.session.routing import Routing

Row = Mapping[str, Any]
Parts = dict[str, list[Any]]
"""What belongs to each database, by its name."""

_aims: ContextVar[tuple[Any, Engine] | None] = ContextVar("_aims", default=None)


class Writes:
    """The writing side of one session."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring

    @property
    def aimed(self) -> Engine | None:
        """What a mapper alone means now, and in this lane."""
        aim = _aims.get()
        return aim[1] if aim is not None and aim[0] is self._routing else None

    # -- transactions ----------------------------------------------------------------------

    def note(self, database: str) -> None:
        """Remember that the transaction writes to `database`; refuse what cannot be atomic."""
        self.note_bind(self._wiring.engines[database])

    def note_bind(self, bind: Any) -> None:
        """Remember that the transaction writes to an engine or connection, of the map or not."""
        session = self._routing.session
        wrote: set[Engine] = session._routed_transaction().wrote
        engine = bind.engine
        if engine in wrote:
            return
        together = wrote | {engine}
        if session._is_two_phase and len(together) > 1:
            self._refuse_unable(together)
        wrote.add(engine)

    def enlist(self, database: str) -> None:
        """Begin the transaction in `database`, which is about to be written to.

        Unlike a session's own connections during a flush, several may be opened side by side.
        """
        self.note(database)
        self._innermost().enlist(self._wiring.engines[database])

    def _innermost(self) -> Any:
        session = self._routing.session
        return session.get_nested_transaction() or session._routed_transaction()

    def _refuse_unable(self, engines: set[Engine]) -> None:
        """Refuse what could not commit together: one database may be unable to be prepared."""
        name_of, branches = self._wiring.engines.name_of, self._wiring.branches
        foreign = [one for one in engines if name_of(one) is None]
        unable = [one for one in engines if not can_prepare(one)]
        if not foreign and (len(unable) < 2 and branches.agree(engines, unable)):
            return
        names, which = self._names(engines), self._names(foreign or unable)
        why = "is not in the map" if foreign else "cannot be prepared"
        raise CrossShardError("R401", f"{names} cannot commit together: {which} {why}")

    def _names(self, engines: Iterable[Engine]) -> str:
        found = (self._wiring.engines.name_of(one) or one.url.database for one in engines)
        return ", ".join(sorted(str(name) for name in found))

    def tear(self, error: BaseException) -> None:
        """Forbid the innermost transaction to commit: only some copies were written."""
        self._tear(error)

    def tear_shards(self, error: BaseException) -> None:
        """Forbid the innermost transaction to commit: only some shards were written."""
        torn = CrossShardError("R311", "a write failed on one of its shards")
        torn.__cause__ = error
        self._tear(torn)

    @contextmanager
    def tearing_shards(self) -> Iterator[None]:
        """Forbid the transaction to commit if the context, which writes to shards, fails."""
        try:
            yield
        except BaseException as error:
            self.tear_shards(error)
            raise

    def _tear(self, error: BaseException) -> None:
        self._innermost().torn = error

    # -- bulk operations -------------------------------------------------------------------

    @contextmanager
    def aiming(self, database: str) -> Iterator[None]:
        """Let a mapper alone mean `database`, which is all that bulk operations ask with."""
        # By lane: others aim elsewhere meanwhile.
        before = _aims.set((self._routing, self._wiring.engines[database]))
        try:
            yield
        finally:
            _aims.reset(before)

    def homes_of_inserts(self, mapper: Mapper[Any], rows: Sequence[Row]) -> Parts:
        """Return the new `rows` of each database."""
        binding = self._bulk_binding(mapper)
        if isinstance(binding, UnshardedTable):
            return {binding.keyspace.database: list(rows)}
        self._admit_rows(mapper, rows)
        shards = homes_of_rows(binding, rows, mapper, self._routing.claim)
        return self._parts(rows, [self._database(binding, shard) for shard in shards])

    def homes_of_updates(self, mapper: Mapper[Any], rows: Sequence[Row]) -> Parts:
        """Return the `rows` of each database, which are named by primary key."""
        binding = self._bulk_binding(mapper)
        if isinstance(binding, UnshardedTable):
            return {binding.keyspace.database: list(rows)}
        if not binding.identified or not is_named_by(mapper, binding.table, binding.key):
            what = f"rows of {binding.table.fullname} name no shard by their primary key"
            fix = "change the objects in the session and flush"
            raise CrossShardError("R305", what, fix=fix)
        self._admit_identity(mapper)
        self._admit_rows(mapper, rows)
        shards = homes_of_rows(binding, rows, mapper, self._routing.locate)
        return self._parts(rows, [self._database(binding, shard) for shard in shards])

    def homes_of_objects(self, objects: Sequence[Any]) -> Parts:
        """Return the objects that belong to each database."""
        return self._parts(objects, [self._home_of_object(inspect(one)) for one in objects])

    def _parts(self, given: Sequence[Any], homes: Sequence[str]) -> Parts:
        """Return what belongs to each database, in the order in which all writes visit them."""
        parts: Parts = {}
        for database in sorted(set(homes), key=self._wiring.ranks.__getitem__):
            parts[database] = []
        for one, home in zip(given, homes, strict=True):
            parts[home].append(one)
        return parts

    def _home_of_object(self, state: Any) -> str:
        binding = self._bulk_binding(state.mapper)
        if isinstance(binding, UnshardedTable):
            return binding.keyspace.database
        placement = self._wiring.states.placement(state.mapper)
        if state.key is not None:
            refuse_moved(state, placement)
        self._admit_object(state, placement)
        locate = self._routing.claim if state.key is None else self._routing.locate
        return self._database(binding, self._wiring.states.shard(state, placement, locate))

    def _admit_rows(self, mapper: Mapper[Any], rows: Sequence[Row]) -> None:
        """Raise if a guard is on and a row, in any of the tables of `mapper`, has another key."""
        guard = self._routing.pins.guard
        if guard is not None:
            for one in self._wiring.states.placement(mapper).keys:
                guard.only.admit_rows(one.reader.binding, rows, mapper)

    def _admit_identity(self, mapper: Mapper[Any]) -> None:
        """Raise if a guard is on and rows of `mapper` do not name their key by their primary key.

        They are written by that, whatever else is said of their key.
        """
        if self._routing.pins.guard is None:
            return
        for one in self._wiring.states.placement(mapper).keys:
            binding = one.reader.binding
            if not binding.identified or not is_named_by(mapper, binding.table, binding.key):
                fix = "change the objects in the session and flush"
                what = f"a primary key of {binding.table.fullname} does not say whose row it is"
                raise outside(what, fix)

    def _admit_object(self, state: Any, placement: Placement) -> None:
        """Raise if a guard is on and an object is not known to have its key."""
        guard, states = self._routing.pins.guard, self._wiring.states
        if guard is None:
            return
        if state.key is not None:
            self._admit_identity(state.mapper)
        for one in placement.keys:
            # The row is named by the attributes, whatever the identity says.
            named = state.key is not None
            key = one.reader.normalise(one.raw(state)) if named else states.new_key(state, one)
            guard.only.admit_key(one.reader.binding, key)
        self._routing.guarding.admit_object(guard.only, state)

    def _bulk_binding(self, mapper: Mapper[Any]) -> UnshardedTable | ShardedTable:
        binding: Binding = self._wiring.states.placement(mapper).binding
        if isinstance(binding, ReferenceTable):
            what = f"bulk operations do not write every copy of {binding.table.fullname}"
            raise CrossShardError("R308", what)
        if isinstance(binding, UnshardedTable):
            self._routing.pins.refuse(binding.table.fullname)
        elif binding.unique:
            what = f"bulk operations on {binding.table.fullname}"
            raise CrossShardError("R313", what, fix="add the objects and flush, or use insert()")
        return binding

    def _database(self, binding: ShardedTable, shard: str) -> str:
        self._routing.pins.check(binding.keyspace, shard)
        return binding.keyspace.shards[shard]
