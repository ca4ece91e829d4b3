"""How one session routes: it decides, and lets SQLAlchemy's `Session` do the work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import CompoundSelect, Engine, Select, Table, inspect
from sqlalchemy.orm import Mapper

from router.errors import CrossShardError, RoutingError
from router.execute.copies import write_copies
from router.execute.fanout import fan_out
from router.hooks.identity import tell_shards_apart
from router.hooks.mappers import is_orm, works_for_a_row
from router.hooks.statements import is_opaque, resolved
from router.route.aim import Circumstances, outside_partition
from router.route.binds import Binding, ReferenceTable, ShardedTable, UnshardedTable
from router.route.rows import KeyReader, shard_of_row
from router.route.shape import Shape
from router.route.target import Destination, Reach, Target
from router.session.execution import Execution
from router.session.flushing import Flushing
from router.session.hints import OnShard, hinted_shard, near_shard
from router.session.partition import Pins
from router.shardmap.model import Scatter, ShardedKeyspace

if TYPE_CHECKING:
    from router.session.sync import RoutingSession
    from router.session.wiring import Wiring

Plan = tuple[Target, Shape]

_READS = (Select, CompoundSelect)


class Routing:
    """The routing state of one session.

    Parameters
    ----------
    session:
        The session that asks.
    wiring:
        The map, its planner and its engines, shared by all sessions of a router.
    """

    def __init__(self, session: RoutingSession, wiring: Wiring) -> None:
        self.session = session
        self.wiring = wiring
        self.pins = Pins()
        self.aimed: Engine | None = None
        # The database used last, from which a reference table is best read.
        self._last: list[str] = []
        self._binds = wiring.bind_arguments
        self._plain = Circumstances(locate=self.locate, preferred=self._last)

    # -- statements -----------------------------------------------------------------------------

    def plain_plan(
        self, statement: Any, params: Any, options: Mapping[str, Any], arguments: Any
    ) -> Plan | None:
        """Return the plan of a SELECT in plain circumstances, None in any others.

        With `at_once` the shortest way for the most frequent statement; `dispatch` knows
        all the others.
        """
        if type(statement) is not Select or arguments or self.pins or statement._with_options:
            return None
        if options and works_for_a_row(options):
            return None
        return self.wiring.planner.target(statement, params, self._plain)

    def at_once(self, plan: Plan) -> Mapping[str, Any] | None:
        """Return the bind arguments of a plan for one database, None for any other."""
        target, shape = plan
        if target.reach is not Reach.ONE or shape.tokens:
            return None
        destination = target.destinations[0]
        self._last[:] = (destination.database,)
        return self._binds.get(destination) or self.binds_of(destination)

    def dispatch(self, execution: Execution, plan: Plan | None = None) -> Any:
        """Route an execution and let SQLAlchemy's session make it."""
        statement, arguments = execution.statement, execution.arguments
        if arguments and arguments.get("bind") is not None and "shard" not in arguments:
            self.refuse_outside("an explicit bind")
            return execution.unrouted()
        if plan is None:
            around = self.circumstances(statement, execution.options, arguments)
            plan = self.wiring.planner.target(statement, execution.params, around)
        target, shape = plan
        tokens = shape.tokens and is_orm(statement)
        if tokens:
            self.tell_shards_apart()
        if target.reach is Reach.ONE:
            destination = target.destinations[0]
            self._last[:] = (destination.database,)
            if isinstance(statement, _READS):
                return execution.on(destination, self, token=tokens)
        return self._elsewhere(execution, target, tokens)

    def _elsewhere(self, execution: Execution, target: Target, tokens: bool) -> Any:
        if target.refusal is not None:
            raise target.refusal.exception()
        reads = isinstance(resolved(execution.statement), _READS)
        make = execution.on if reads else execution.write_on
        calls = [partial(make, one, self, token=tokens) for one in target.destinations]
        if len(calls) == 1:
            return calls[0]()
        if target.reach is Reach.COPIES:
            return write_copies(execution.statement, execution.params, target.destinations, calls)
        return fan_out(execution.statement, execution.params, target, calls)

    def binds_of(self, destination: Destination) -> Mapping[str, Any]:
        """Return the bind arguments that send a statement to `destination`."""
        binds = self._binds.get(destination)
        if binds is None:
            engine = self.wiring.engines[destination.database]
            binds = {**_bind_argument(destination), "bind": engine}
            self._binds[destination] = binds
        return binds

    # -- circumstances --------------------------------------------------------------------------

    def circumstances(
        self,
        statement: Any = None,
        options: Mapping[str, Any] = MappingProxyType({}),
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> Circumstances:
        """Return what a statement executed now meets besides its own text."""
        hint = self._hint(statement, arguments)
        token = near_shard(statement, options, self.needs_token) if options else None
        if hint is None and token is None and not self.pins:
            return self._plain
        if token is not None:
            self.tell_shards_apart()
        near: dict[str, str] = {}
        if token is not None:
            keyspace, _, shard = token.partition("/")
            near[keyspace] = shard
        pinned = self.pins.shards()
        homes = [self.wiring.destination(f"{k}/{s}").database for k, s in pinned.items()]
        return Circumstances(
            locate=self.locate,
            hint=hint,
            pinned=pinned,
            near=near,
            preferred=homes or self._last,
        )

    def _hint(self, statement: Any, arguments: Mapping[str, Any]) -> Destination | None:
        if arguments:
            hint = self.destination_of(arguments)
            if hint is not None:
                return hint
        shard = hinted_shard(statement)
        if shard is not None:
            return self.wiring.destination(shard)
        if isinstance(statement, _READS) or not is_opaque(statement):
            return None
        if "mapper" in arguments or "clause" in arguments:
            engine = self.engine_for(arguments.get("mapper"), arguments.get("clause"), {})
            return Destination(self.wiring.engines.name_of(engine) or "")
        for keyspace, name in self.pins.shards().items():
            return self.wiring.destination(f"{keyspace}/{name}")
        return self.wiring.only_database

    def destination_of(self, arguments: Mapping[str, Any]) -> Destination | None:
        """Return what ``bind_arguments`` say about the place, or None if they say nothing."""
        if "database" in arguments:
            return Destination(arguments["database"])
        if "shard" in arguments:
            return self.wiring.destination(arguments["shard"])
        name = arguments.get("keyspace")
        if name is None:
            if "shard_key" in arguments:
                raise RoutingError("R206", "a shard_key is given without its keyspace")
            return None
        keyspace = self.wiring.keyspace(name)
        if not isinstance(keyspace, ShardedKeyspace):
            return Destination(keyspace.database)
        if "shard_key" not in arguments:
            return None
        return self.home(keyspace, arguments["shard_key"])

    def home(self, keyspace: ShardedKeyspace, key: Any) -> Destination:
        """Return the shard of `key`, one value or a tuple of them."""
        return self.wiring.home(keyspace, key, self.locate)

    def locate(self, keyspace: ShardedKeyspace, key: Any) -> str:
        """Return the shard of a normalised key; directories are asked once per transaction."""
        return keyspace.function.shard_of(key)

    def tells_apart(self, entity: Any) -> bool:
        """Return whether rows of a mapped class or mapper are told apart by their shard."""
        return self.wiring.tells_apart(entity)

    def tell_shards_apart(self) -> None:
        """Prepare the session's identity map for rows that carry their shard."""
        tell_shards_apart(self.session.identity_map, self.wiring.needs_token)

    def needs_token(self, mapped: type) -> bool:
        """Return whether rows of `mapped` are told apart by their shard."""
        return self.wiring.needs_token(mapped)

    # -- partitions -------------------------------------------------------------------------------

    def refuse_outside(self, what: str) -> None:
        """Raise if the session is pinned: `what` is not part of any partition."""
        if self.pins:
            raise outside_partition(f"{what} is not part of it", self.pins.shards())

    def check_partition(self, keyspace: ShardedKeyspace, shard: str) -> None:
        """Raise if the session is pinned to another shard than this one."""
        if self.pins:
            pinned = self.pins.shards()
            if pinned.get(keyspace.name) != shard:
                what = f"this would reach {keyspace.shard_id(shard)}"
                raise outside_partition(what, pinned)

    def refuse_connection(self, database: str) -> None:
        """Raise if the session is pinned to a shard in another database."""
        pinned = self.pins.shards()
        homes = [self.wiring.destination(f"{k}/{s}").database for k, s in pinned.items()]
        if homes and database not in homes:
            raise outside_partition(f"this would reach database {database}", pinned)

    # -- mappers ----------------------------------------------------------------------------------

    def engine_for(self, mapper: Any, clause: Any, arguments: Mapping[str, Any]) -> Engine:
        """Return the engine that a mapper, a clause and bind arguments name together."""
        hint = self.destination_of(arguments)
        if hint is not None:
            return self.wiring.engines[hint.database]
        if mapper is not None:
            return self._engine_of_mapper(inspect(mapper).mapper)
        if clause is None:
            name = arguments["keyspace"]
            raise RoutingError("R202", f"keyspace {name!r} is sharded and no shard_key is given")
        if isinstance(clause, Table):
            return self._engine_of(self.wiring.binds.of_table(clause), clause.fullname)
        target, _ = self.wiring.planner.target(clause, None, self.circumstances(clause))
        if target.refusal is not None:
            raise target.refusal.exception()
        if target.reach is not Reach.ONE:
            raise RoutingError(
                "R202", "the clause reaches several databases; one bind is asked for"
            )
        return self.wiring.engines[target.destinations[0].database]

    def engine_for_nothing(self) -> Engine:
        """Return the engine of statements that name nothing."""
        for name, shard in self.pins.shards().items():
            return self.wiring.engines[self.wiring.destination(f"{name}/{shard}").database]
        if self.wiring.only_database is not None:
            return self.wiring.engines[self.wiring.only_database.database]
        keyspace = self.wiring.binds.default()
        if isinstance(keyspace, ShardedKeyspace):
            raise RoutingError("R202", f"the default keyspace {keyspace.name} is sharded")
        return self.wiring.engines[keyspace.database]

    def _engine_of_mapper(self, mapper: Mapper[Any]) -> Engine:
        if self.aimed is not None:
            return self.aimed
        return self._engine_of(self.wiring.binds.of_mapper(mapper), str(mapper))

    def _engine_of(self, binding: Binding, what: str) -> Engine:
        if isinstance(binding, UnshardedTable):
            return self.wiring.engines[binding.keyspace.database]
        if isinstance(binding, ReferenceTable):
            return self.wiring.engines[binding.databases[0]]
        shard = self.pins.shards().get(binding.keyspace.name)
        if shard is not None:
            return self.wiring.engines[binding.keyspace.shards[shard]]
        raise RoutingError("R202", f"{what} is sharded over {binding.keyspace.name}")

    def shards_to_ask(self, mapper: Mapper[Any], options: Mapping[str, Any]) -> list[str]:
        """Return the shards where `get()` looks for a row whose key does not name its shard."""
        hint = self.destination_of(options.get("bind_arguments") or {})
        named = [one.payload for one in options.get("options") or () if isinstance(one, OnShard)]
        if hint is not None and hint.shard is not None:
            return [hint.shard]
        if named:
            return [str(named[0])]
        binding = self.wiring.binds.of_mapper(mapper.base_mapper)
        if not isinstance(binding, ShardedTable):
            return []
        keyspace = binding.keyspace
        pin = self.pins.shards().get(keyspace.name)
        policy = keyspace.scatter or self.wiring.shard_map.scatter
        if pin is None and policy is Scatter.DENY:
            what = f"the primary key of {mapper.class_.__name__} does not name its shard"
            raise CrossShardError("R309", what, where=keyspace.where)
        if self.pins:
            self.check_partition(keyspace, pin or "")
        return [keyspace.shard_id(one) for one in ([pin] if pin else keyspace.shards)]

    def token_of_transient(self, state: Any) -> str | None:
        """Return the shard of an object about to be merged, if it needs and names one."""
        if not self.needs_token(state.mapper.base_mapper.class_):
            return None
        placement = self.wiring.states.placement(state.mapper)
        if any(state.dict.get(name) is None for one in placement.keys for name in one.names):
            return None
        binding = placement.keys[0].reader.binding
        return binding.keyspace.shard_id(self.wiring.states.shard(state, placement, self.locate))

    def bulk_home(self, mapper: Mapper[Any], rows: Iterable[Mapping[str, Any]]) -> str:
        """Return the one database that all `rows` of a bulk operation belong to."""
        binding = self.wiring.binds.of_mapper(mapper)
        if isinstance(binding, ReferenceTable):
            what = f"bulk operations do not write every copy of {binding.table.fullname}"
            raise CrossShardError("R308", what)
        if isinstance(binding, UnshardedTable):
            self.refuse_outside(binding.table.fullname)
            return binding.keyspace.database
        reader = KeyReader(binding, mapper)
        shards = {shard_of_row(reader.key(row), binding, self.locate) for row in rows}
        for shard in shards:
            self.check_partition(binding.keyspace, shard)
        if len(shards) > 1:
            names = ", ".join(sorted(binding.keyspace.shard_id(shard) for shard in shards))
            raise CrossShardError("R305", f"the rows of {binding.table.fullname} belong to {names}")
        return binding.keyspace.shards[shards.pop()]

    # -- writing ----------------------------------------------------------------------------------

    def note_write(self, database: str) -> None:
        """Remember that the transaction writes to `database`; refuse what cannot be atomic."""
        transaction = self.session._routed_transaction()
        engine = self.wiring.engines[database]
        wrote: set[Engine] = transaction.wrote
        if engine in wrote:
            return
        together = wrote | {engine}
        if self.session._is_two_phase and len(together) > 1:
            unable = sorted(
                self.wiring.engines.name_of(one) or "?" for one in together if not can_prepare(one)
            )
            if unable:
                names = ", ".join(sorted(self.wiring.engines.name_of(o) or "?" for o in together))
                what = f"{names} cannot commit together: {', '.join(unable)} cannot be prepared"
                raise CrossShardError("R401", what)
        wrote.add(engine)

    def begins_two_phase(self, engine: Any) -> bool:
        """Return whether `engine` can be prepared and is not the only database."""
        return len(self.wiring.engines) > 1 and can_prepare(engine)

    def flushing(self) -> Flushing:
        """Return the routing of one flush."""
        return Flushing(self)

    def aiming(self, database: str) -> _Aim:
        """Return a context in which a mapper alone means `database`."""
        return _Aim(self, self.wiring.engines[database])


class _Aim:
    """Bulk operations ask for a connection by mapper only; here is the answer."""

    def __init__(self, routing: Routing, engine: Engine) -> None:
        self._routing = routing
        self._engine = engine
        self._before: Engine | None = None

    def __enter__(self) -> None:
        self._before, self._routing.aimed = self._routing.aimed, self._engine

    def __exit__(self, *error: object) -> None:
        self._routing.aimed = self._before


def can_prepare(engine: Engine) -> bool:
    """Return whether a transaction of `engine` can be prepared for a two-phase commit."""
    return engine.dialect.name in ("postgresql", "mysql", "mariadb")


def _bind_argument(destination: Destination) -> dict[str, str]:
    if destination.shard is not None:
        return {"shard": destination.shard}
    return {"database": destination.database}
