"""What a session writes: which databases take part, and where bulk operations go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, inspect
from sqlalchemy.orm import Mapper

from router.errors import CrossShardError
from router.route.binds import Binding, ReferenceTable, ShardedTable, UnshardedTable
from router.route.rows import KeyReader, shard_of_row

if TYPE_CHECKING:
    from router.session.routing import Routing


class Writes:
    """The writing side of one session."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring
        self.aimed: Engine | None = None

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

    def _refuse_unable(self, engines: set[Engine]) -> None:
        unable = [engine for engine in engines if not can_prepare(engine)]
        if unable:
            names, which = self._names(engines), self._names(unable)
            what = f"{names} cannot commit together: {which} cannot be prepared"
            raise CrossShardError("R401", what)

    def _names(self, engines: Iterable[Engine]) -> str:
        found = (self._wiring.engines.name_of(one) or one.url.database for one in engines)
        return ", ".join(sorted(str(name) for name in found))

    def tear(self, error: BaseException) -> None:
        """Forbid the innermost transaction to commit: only some copies were written."""
        session = self._routing.session
        transaction: Any = session.get_nested_transaction() or session._routed_transaction()
        transaction.torn = error

    def begins_two_phase(self, bind: Any) -> bool:
        """Return whether a transaction on `bind` has to be one that can be prepared."""
        return len(self._wiring.engines) > 1 and isinstance(bind, Engine) and can_prepare(bind)

    # -- bulk operations -------------------------------------------------------------------

    @contextmanager
    def aiming(self, database: str) -> Iterator[None]:
        """Let a mapper alone mean `database`, which is all that bulk operations ask with."""
        before, self.aimed = self.aimed, self._wiring.engines[database]
        try:
            yield
        finally:
            self.aimed = before

    def home_of_inserts(self, mapper: Mapper[Any], rows: Iterable[Mapping[str, Any]]) -> str:
        """Return the one database that all new `rows` belong to."""
        binding = self._bulk_binding(mapper)
        if isinstance(binding, UnshardedTable):
            return binding.keyspace.database
        reader = KeyReader(binding, mapper)
        keys = [reader.key(row) for row in rows]
        return self._one(binding, {shard_of_row(key, binding, self._routing.claim) for key in keys})

    def home_of_updates(self, mapper: Mapper[Any], rows: Iterable[Mapping[str, Any]]) -> str:
        """Return the one database where all `rows` are, which are named by primary key."""
        binding = self._bulk_binding(mapper)
        if isinstance(binding, UnshardedTable):
            return binding.keyspace.database
        if not binding.identified:
            what = f"rows of {binding.table.fullname} name no shard by their primary key"
            raise CrossShardError("R305", what)
        reader = KeyReader(binding, mapper)
        keys = [reader.key(row) for row in rows]
        return self._one(
            binding, {shard_of_row(key, binding, self._routing.locate) for key in keys}
        )

    def home_of_objects(self, objects: Iterable[Any]) -> str:
        """Return the one database that all `objects` belong to."""
        homes = {self._home_of_object(inspect(one)) for one in objects}
        if len(homes) > 1:
            raise CrossShardError("R305", f"the objects belong to {', '.join(sorted(homes))}")
        return homes.pop()

    def _home_of_object(self, state: Any) -> str:
        binding = self._bulk_binding(state.mapper)
        if isinstance(binding, UnshardedTable):
            return binding.keyspace.database
        placement = self._wiring.states.placement(state.mapper)
        locate = self._routing.claim if state.key is None else self._routing.locate
        return self._one(binding, {self._wiring.states.shard(state, placement, locate)})

    def _bulk_binding(self, mapper: Mapper[Any]) -> UnshardedTable | ShardedTable:
        binding: Binding = self._wiring.states.placement(mapper).binding
        if isinstance(binding, ReferenceTable):
            what = f"bulk operations do not write every copy of {binding.table.fullname}"
            raise CrossShardError("R308", what)
        if isinstance(binding, UnshardedTable):
            self._routing.pins.refuse(binding.table.fullname)
        return binding

    def _one(self, binding: ShardedTable, shards: set[str]) -> str:
        for shard in shards:
            self._routing.pins.check(binding.keyspace, shard)
        if len(shards) > 1:
            names = ", ".join(sorted(binding.keyspace.shard_id(shard) for shard in shards))
            raise CrossShardError("R305", f"the rows of {binding.table.fullname} belong to {names}")
        return binding.keyspace.shards[shards.pop()]


def can_prepare(engine: Engine) -> bool:
    """Return whether a transaction of `engine` can be prepared for a two-phase commit."""
    return engine.dialect.name in ("postgresql", "mysql", "mariadb")
