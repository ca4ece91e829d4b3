"""Which database is meant by bind arguments, a mapper, a clause, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Table, inspect
from sqlalchemy.orm import Mapper

from router.errors import RoutingError
from router.route.aim import Locate
from router.route.binds import Binding, ReferenceTable, ShardedTable, UnshardedTable
from router.route.target import Destination, Reach
from router.shardmap.model import ShardedKeyspace

if TYPE_CHECKING:
    from router.session.routing import Routing


class Places:
    """Finds databases for one session; never from the text of a statement.

    What cannot be seen through, such as `text()` and bare connections, may write: the keys
    given for it are placed in their directory first.
    """

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring

    # -- bind arguments --------------------------------------------------------------------

    def named(self, arguments: Mapping[str, Any], locate: Locate) -> Destination | None:
        """Return the shard or keyspace that ``bind_arguments`` name, None if they do not."""
        if "shard" in arguments:
            return self._wiring.destination(arguments["shard"])
        keyspace = self._keyspace(arguments)
        if keyspace is None:
            return None
        if not isinstance(keyspace, ShardedKeyspace):
            return Destination(keyspace.database)
        if "shard_key" not in arguments:
            return None
        return self._wiring.home(keyspace, arguments["shard_key"], locate)

    def candidates(self, arguments: Mapping[str, Any]) -> list[Destination]:
        """Return what a database or engine in ``bind_arguments`` may mean: a shard in it, or it."""
        bind = arguments.get("bind")
        database = arguments.get("database") or self._wiring.engines.name_of(bind)
        if database is None:
            return []
        if database not in self._wiring.engines:
            known = ", ".join(self._wiring.engines)
            raise RoutingError("R206", f"there is no database {database!r}; the map has {known}")
        return [*self._wiring.shards_in(database), Destination(database)]

    def _keyspace(self, arguments: Mapping[str, Any]) -> Any:
        name = arguments.get("keyspace")
        if name is not None:
            return self._wiring.keyspace(name)
        if "shard_key" not in arguments:
            return None
        binding = self._binding(arguments.get("mapper"), arguments.get("clause"))
        if not isinstance(binding, ShardedTable):
            raise RoutingError("R206", "a shard_key is given without its keyspace")
        return binding.keyspace

    # -- what cannot be seen through -------------------------------------------------------

    def of_opaque(self, arguments: Mapping[str, Any]) -> Destination | None:
        """Return where a statement goes whose tables cannot be seen, None if nothing says it."""
        if arguments.get("mapper") is not None or arguments.get("clause") is not None:
            engine = self.engine_for(arguments)
            return Destination(self._wiring.engines.name_of(engine) or "")
        return self._pinned() or self._wiring.only_database

    def _pinned(self) -> Destination | None:
        for pin in self._routing.pins:
            home = self._wiring.home(pin.keyspace, pin.key, self._routing.claim)
            self._routing.pins.check(pin.keyspace, str(home.shard).partition("/")[2])
            return home
        return None

    # -- engines ---------------------------------------------------------------------------

    def engine_for(self, arguments: Mapping[str, Any]) -> Engine:
        """Return the engine that the arguments of `Session.get_bind` mean.

        Raises
        ------
        RoutingError
            They name a sharded table or keyspace, but no shard.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        named = self.named(given, self._routing.claim)
        if named is None and "database" in given:
            named = self.candidates(given)[0]
        if named is not None:
            return self._wiring.engines[named.database]
        mapper, clause = given.get("mapper"), given.get("clause")
        if mapper is not None or isinstance(clause, Table):
            return self._engine_of(self._binding(mapper, clause), mapper, clause)
        if clause is not None:
            return self._engine_of_clause(clause)
        if "keyspace" in given:
            what = f"keyspace {given['keyspace']!r} is sharded and no shard_key is given"
            raise RoutingError("R202", what)
        return self._engine_for_nothing()

    def _engine_for_nothing(self) -> Engine:
        place = self._pinned() or self._wiring.only_database
        if place is not None:
            return self._wiring.engines[place.database]
        keyspace = self._wiring.binds.default()
        if isinstance(keyspace, ShardedKeyspace):
            raise RoutingError("R202", f"the default keyspace {keyspace.name} is sharded")
        return self._wiring.engines[keyspace.database]

    def _engine_of_clause(self, clause: Any) -> Engine:
        target, _ = self._wiring.planner.target(clause, None, self._routing.circumstances(clause))
        if target.refusal is not None:
            raise target.refusal.exception()
        if target.reach is not Reach.ONE:
            what = "the clause reaches several databases; one bind is asked for"
            raise RoutingError("R202", what)
        return self._wiring.engines[target.destinations[0].database]

    def _binding(self, mapper: Any, clause: Any) -> Binding | None:
        if mapper is not None:
            found: Mapper[Any] = inspect(mapper).mapper
            return self._wiring.binds.of_mapper(found)
        return self._wiring.binds.of_table(clause) if isinstance(clause, Table) else None

    def _engine_of(self, binding: Binding | None, mapper: Any, clause: Any) -> Engine:
        routing = self._routing
        if mapper is not None and routing.writes.aimed is not None:
            return routing.writes.aimed
        if isinstance(binding, UnshardedTable):
            return self._wiring.engines[binding.keyspace.database]
        if isinstance(binding, ReferenceTable):
            return self._wiring.engines[binding.databases[0]]
        if isinstance(binding, ShardedTable):
            shard = routing.pins.shards().get(binding.keyspace.name)
            if shard is not None:
                return self._wiring.engines[binding.keyspace.shards[shard]]
            what = f"{binding.table.fullname} is sharded over {binding.keyspace.name}"
            raise RoutingError("R202", what)
        raise RoutingError("R202", f"{mapper or clause} names no table")
