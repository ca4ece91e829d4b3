"""What all sessions of one router share: the map, its planner, its engines."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Protocol

from sqlalchemy import MetaData, inspect
from sqlalchemy import exc as sa_exc

from router.deadlocks.watch import Deadlocks
from router.engines import Engines
from router.errors import RoutingError
from router.lookups import Lookups
from router.merge.collations import Collations
from router.replicas.fleet import Fleet
from router.route.aim import Circumstances, Locate, by_function
from router.route.binds import BindTable, ShardedTable
from router.route.only import Only
from router.route.planner import Planner
from router.route.predicates import Null
from router.route.target import Destination, Target
from router.session.branches import Branches
from router.session.directories import attach
from router.session.guarding import Guard
from router.session.routing import Routing
from router.session.states import States
from router.shardmap.functions.protocol import Key, NoShardError
from router.shardmap.keys import normalise
from router.shardmap.keytypes import KeyType, KeyValueError
from router.shardmap.model import Keyspace, ShardedKeyspace, ShardMap


class Wired(Protocol):
    """What has a wiring: the router."""

    @property
    def wiring(self) -> Wiring:
        """Return what the router's sessions share."""
        ...


class Wiring:
    """Built once by the router; everything in it is safe to use from several threads."""

    def __init__(self, shard_map: ShardMap, metadata: Mapping[str, MetaData]) -> None:
        self.engines = Engines(shard_map)
        shard_map, self.directories = attach(shard_map, self.engines)
        self.shard_map = shard_map
        self.metadata = dict(metadata)
        self.binds = BindTable(shard_map, metadata)
        urls = [database.url for database in shard_map.databases.values()]
        dialects = {url.get_backend_name(): url.get_dialect() for url in urls}
        self.planner = Planner(self.binds, [make() for make in dialects.values()])
        self.states = States(self.binds)
        self.collations = Collations()
        self.lookups = Lookups(self.engines)
        self.fleet = Fleet.of(shard_map, self.engines)
        self.branches = Branches(self.engines)
        telling = [name for name in shard_map.databases if self.backend(name) == "postgresql"]
        self.deadlocks = Deadlocks(self.engines, telling)
        kinds = shard_map.keyspaces.values()
        self.has_shards = any(isinstance(one, ShardedKeyspace) for one in kinds)
        only = list(shard_map.databases)
        self.only_database = Destination(only[0]) if len(only) == 1 else None
        self.ranks = {name: rank for rank, name in enumerate(shard_map.databases)}
        self.bind_arguments: dict[str, Mapping[str, Any]] = {}
        self._destinations: dict[tuple[str, str], Destination] = {}
        self.prepared: set[Any] = set()
        self._tokens: dict[type, bool] = {}
        self._entities: dict[Any, bool] = {}

    def over(self, engines: Engines) -> Wiring:
        """Return the same over other engines of the same databases."""
        other = copy(self)
        other.engines = engines
        _, other.directories = attach(self.shard_map, engines)
        other.lookups = Lookups(engines)
        other.branches = Branches(engines)
        other.fleet = self.fleet.over(engines) if self.fleet is not None else None
        other.bind_arguments = {}
        return other

    def routing(self, session: Any) -> Routing:
        """Return the routing of a new session."""
        return Routing(session, self)

    def target(self, statement: Any, params: Any) -> Target:
        """Return where `statement` goes for a session in plain circumstances."""
        return self.planner.target(statement, params, Circumstances())[0]

    def backend(self, database: str) -> str:
        """Return the kind of a database, such as ``postgresql``."""
        return self.shard_map.databases[database].url.get_backend_name()

    def keyspace(self, name: str) -> Keyspace:
        """Return the keyspace called `name`; raise `RoutingError` if there is none."""
        found = self.shard_map.keyspaces.get(name)
        if found is None:
            known = ", ".join(self.shard_map.keyspaces)
            raise RoutingError("R206", f"there is no keyspace {name!r}; the map has {known}")
        return found

    def sharded(self, name: str) -> ShardedKeyspace:
        """Return the sharded keyspace called `name`."""
        found = self.keyspace(name)
        if not isinstance(found, ShardedKeyspace):
            raise RoutingError("R206", f"keyspace {name!r} is not sharded")
        return found

    def destination(self, shard: str) -> Destination:
        """Return where `shard`, written ``keyspace/shard``, lives."""
        name, separator, short = str(shard).partition("/")
        if not separator:
            raise RoutingError("R206", f"{shard!r} names no shard: write keyspace/shard")
        keyspace = self.sharded(name)
        database = keyspace.shards.get(short)
        if database is None:
            known = ", ".join(keyspace.shard_id(one) for one in keyspace.shards)
            raise RoutingError("R206", f"there is no shard {shard!r}; the keyspace has {known}")
        return Destination(database, str(shard))

    def shard_destination(self, keyspace: ShardedKeyspace, shard: str) -> Destination:
        """Return the destination of `shard`, named without its keyspace."""
        found = self._destinations.get((keyspace.name, shard))
        if found is None:
            found = Destination(keyspace.shards[shard], keyspace.shard_id(shard))
            self._destinations[keyspace.name, shard] = found
        return found

    def shards_in(self, database: str) -> list[Destination]:
        """Return the shards, of any keyspace, that live in `database`."""
        return [
            self.shard_destination(keyspace, shard)
            for keyspace in self.shard_map.keyspaces.values()
            if isinstance(keyspace, ShardedKeyspace)
            for shard, name in keyspace.shards.items()
            if name == database
        ]

    def home(
        self, keyspace: ShardedKeyspace, key: Any, locate: Locate = by_function
    ) -> Destination:
        """Return the shard of `key`: one value, or a tuple for a key of several columns.

        Raises
        ------
        RoutingError
            The key is of the wrong type, NULL where the map names no null_shard, or no
            shard takes it.
        """
        values = key if isinstance(key, (tuple, list)) else (key,)
        normalised = self.canonical(keyspace, tuple(values))
        if Null.NULL in normalised:
            if keyspace.null_shard is None:
                what = f"keyspace {keyspace.name} has no shard for a NULL key"
                raise RoutingError("R205", what, where=keyspace.where)
            shard = keyspace.null_shard
        else:
            try:
                shard = locate(keyspace, normalised)
            except NoShardError as error:
                what = f"no shard of {keyspace.name} takes the key {key!r}"
                raise RoutingError("R207", what, where=keyspace.where) from error
            except KeyValueError as error:
                what = f"a shard key of keyspace {keyspace.name}: {error}"
                raise RoutingError("R204", what, where=keyspace.where) from error
        return Destination(keyspace.shards[shard], keyspace.shard_id(shard))

    def guard(self, keyspace: ShardedKeyspace, key: Key, values: tuple[Any, ...]) -> Guard:
        """Return the guard of one key, in its canonical form and as it was given."""
        return Guard(Only(keyspace, key, values), self.binds)

    def key_types(self, keyspace: ShardedKeyspace) -> tuple[KeyType, ...] | None:
        """Return the types of the keyspace's key columns, if a table of it is known."""
        for metadata in self.metadata.values():
            for name in keyspace.tables:
                if name in metadata.tables:
                    binding = self.binds.of_table(metadata.tables[name])
                    if isinstance(binding, ShardedTable):
                        return binding.types
        return None

    def needs_token(self, mapped: type) -> bool:
        """Return whether rows of the class `mapped` are told apart by their shard."""
        found = self._tokens.get(mapped)
        if found is None:
            try:
                binding = self.binds.of_mapper(inspect(mapped))
            except (RoutingError, sa_exc.NoInspectionAvailable):
                return False
            found = isinstance(binding, ShardedTable) and not binding.identified
            self._tokens[mapped] = found
        return found

    def tells_apart(self, entity: Any) -> bool:
        """Return whether rows of a mapped class or mapper are told apart by their shard."""
        found = self._entities.get(entity)
        if found is None:
            mapper = inspect(entity, raiseerr=False)
            if mapper is None or not mapper.is_mapper:
                return False
            found = self._entities[entity] = self.needs_token(mapper.base_mapper.class_)
        return found

    def canonical(self, keyspace: ShardedKeyspace, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a key in its canonical form, `Null.NULL` for a NULL in it."""
        types = self.key_types(keyspace)
        width = len(next(iter(keyspace.tables.values()), values))
        if len(values) != width:
            what = f"keyspace {keyspace.name} has keys of {width} columns, not {len(values)}"
            raise RoutingError("R204", what, where=keyspace.where)
        try:
            return tuple(
                Null.NULL
                if value is None
                else normalise(value)
                if types is None
                else types[at].normalise(value)
                for at, value in enumerate(values)
            )
        except KeyValueError as error:
            what = f"a shard key of keyspace {keyspace.name}: {error}"
            raise RoutingError("R204", what, where=keyspace.where) from error
