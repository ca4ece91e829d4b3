"""How one session routes: it decides, and lets SQLAlchemy's `Session` do the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy import CompoundSelect, Insert, Select
from sqlalchemy.orm.query import FromStatement  # type: ignore[attr-defined]

from router.errors import RoutingError
from router.execute.copies import write_copies
from router.execute.fanout import fan_out
from router.hooks.identity import tell_shards_apart
from router.hooks.loaders import autoflushes, loading_relationship, works_for_a_row
from router.hooks.mappers import is_orm
from router.hooks.statements import is_opaque, is_unseen, resolved
from router.merge.merged import concatenate
from router.route.aim import Circumstances, by_function
from router.route.circumstances import nowhere_known
from router.route.shape import Shape
from router.route.target import Destination, Reach, Target, Tier
from router.session.directories import Directories
from router.session.ending import Ending
from router.session.execution import Execution
from router.session.finding import FOUND, Finders
from router.session.flushing import Flushing
from router.session.gathering import Gathering
from router.session.guarding import GUARD, Guarding
from router.session.hints import hinted_shard, scatter_option
from router.session.loading import Loading
from router.session.merging import Merging
from router.session.partition import Partition, Pin, Pins
from router.session.places import Places
from router.session.readers import Readers
from router.session.splitting import Splitting
from router.session.transferring import Transferring
from router.session.unique import UniqueKeys
from router.session.writes import Writes

if TYPE_CHECKING:
    from router.session.sync import RoutingSession
    from router.session.wiring import Wiring

Plan = tuple[Target, Shape]

_READS = (Select, CompoundSelect)
_EMPTY: Mapping[str, Any] = MappingProxyType({})


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
        # Weakly: a session that nobody holds is gone at once, and not when garbage is collected.
        self._session = ref(session)
        self.wiring = wiring
        self.pins = Pins()
        self.locate = self.claim = self.propose = by_function
        if wiring.directories:
            found = self._session
            directories = Directories(wiring.directories, lambda: _held(found)._confirmed_keys())
            self.locate, self.claim = directories.find, directories.claim
            self.propose = directories.propose
            self.directories: Directories | None = directories
        else:
            self.directories = None
        self.readers = Readers(self, wiring.fleet) if wiring.fleet is not None else None
        # The database used last, from which a reference table is best read.
        self._last: list[str] = []
        self._binds = wiring.bind_arguments
        self.unique = UniqueKeys(self) if wiring.shard_map.unique else None
        seek = self.unique.seek if self.unique is not None else nowhere_known
        self._plain = Circumstances(locate=self.locate, seek=seek, preferred=self._last)

    @property
    def session(self) -> RoutingSession:
        """The session that asks."""
        return _held(self._session)

    # None of the following keeps anything, so that none has to be kept.

    @property
    def places(self) -> Places:
        """What turns hints into places."""
        return Places(self)

    @property
    def writes(self) -> Writes:
        """What knows which databases are written to."""
        return Writes(self)

    @property
    def loading(self) -> Loading:
        """What loaders need to know."""
        return Loading(self)

    @property
    def gathering(self) -> Gathering:
        """What answers statements on copies."""
        return Gathering(self)

    @property
    def merging(self) -> Merging:
        """What merges the answers of several shards."""
        return Merging(self)

    @property
    def guarding(self) -> Guarding:
        """What keeps to the key of a guard."""
        return Guarding(self)

    @property
    def splitting(self) -> Splitting:
        """What writes to several databases."""
        return Splitting(self)

    def ending(self, transaction: Any, together: bool) -> Ending:
        """Return how the root `transaction` of the session ends."""
        return Ending(self, transaction, together)

    def _way(self, tier: Tier) -> Splitting | Transferring | Finders | None:
        """Return what makes a write of `tier`, None for one that goes out as it is."""
        if tier is Tier.SPLIT or tier is Tier.FANNED:
            return self.splitting
        if tier is Tier.FOUND or tier is Tier.MOVED:
            return Finders(self)
        return Transferring(self) if tier is Tier.TRANSFERRED else None

    def partition(self, key: Any, keyspace: str, *, guard: bool) -> Partition:
        """Return the partition of the session on the shard of a key."""
        sharded = self.wiring.sharded(keyspace)
        values = tuple(key) if isinstance(key, (tuple, list)) else (key,)
        home = self.wiring.home(sharded, values, self.propose)
        canonical = self.wiring.canonical(sharded, values)
        guarded = self.wiring.guard(sharded, canonical, values) if guard else None
        pin = Pin(sharded, str(home.shard).partition("/")[2], values, canonical, guarded)
        return Partition(lambda: self.pins, pin)

    # -- statements ------------------------------------------------------------------------

    def plain_plan(
        self, statement: Any, params: Any, options: Mapping[str, Any], arguments: Any
    ) -> Plan | None:
        """Return the plan of a SELECT in plain circumstances, None in any others.

        With `at_once` the shortest way for the most frequent statement; `dispatch` knows
        all the others.
        """
        if type(statement) is not Select or statement._with_options or arguments:
            return None
        particular = options and (GUARD in options or works_for_a_row(statement, options))
        if particular or self.pins.entered:
            return None
        if self.unique is not None:
            self._flush_before(statement, options)
        return self.wiring.planner.in_short(statement, params, self._plain)

    def at_once(
        self, plan: Plan, statement: Any, options: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the bind arguments of a plan for one database, None for any other."""
        target, shape = plan
        if target.reach is not Reach.ONE or shape.tokens or shape.locks:
            return None
        destination = target.destinations[0]
        if self.readers is not None:
            reading = self.readers.at_once(destination.database, shape, statement, options)
            return reading and {**self.binds_of(destination), "reading": reading}
        self._last[:] = (destination.database,)
        return self._binds.get(destination.name) or self.binds_of(destination)

    def dispatch_to(
        self,
        run: Callable[..., Any],
        statement: Any,
        params: Any,
        options: Mapping[str, Any],
        arguments: Mapping[str, Any],
    ) -> Any:
        """Route a statement, and let `run` execute it."""
        # What SQLAlchemy has found for its own look-up of a bind is found again.
        own = ("clause", "mapper") if is_orm(resolved(statement)) else ()
        found = {name: one for name, one in arguments.items() if name not in own}
        return self.dispatch(Execution(run, statement, params, options, found, _EMPTY))

    def dispatch(self, execution: Execution, plan: Plan | None = None) -> Any:
        """Route an execution and let SQLAlchemy's session make it."""
        statement = resolved(execution.statement)
        reads = isinstance(statement, _READS)
        if self._is_foreign(execution.arguments.get("bind")):
            self.pins.refuse("an explicit bind")
            if not reads:
                self.writes.note_bind(execution.arguments["bind"])
            return execution.unrouted()
        if plan is not None and scatter_option(statement, execution.options) is not None:
            plan = None
        if self.pins or GUARD in execution.options:
            execution, plan = self.guarding.restricted(execution, plan)
        target, shape = plan or self.plan(execution)
        return self._made(execution, target, shape)

    def _made(self, execution: Execution, target: Target, shape: Shape) -> Any:
        statement = resolved(execution.statement)
        reads = isinstance(statement, _READS)
        if target.refusal is not None:
            raise target.refusal.exception()
        execution = self._noted(execution, target, shape, reads)
        if self.unique is not None and (shape.refusal is not None or is_unseen(statement)):
            self.unique.refuse_unseen(statement)
        if target.tier is Tier.GATHERED or target.tier is Tier.MERGED:
            return self._exactly(execution, target, shape)
        # What is not planned as a query can still load objects.
        tokens = is_orm(statement) and (shape.tokens or isinstance(statement, _UNSEEN))
        if tokens:
            self.tell_shards_apart()
        if self.unique is None or reads:
            return self._sent(execution, target, tokens)
        with self.unique.kept(execution) as kept:
            return self._sent(kept, target, tokens)

    def _noted(self, execution: Execution, target: Target, shape: Shape, reads: bool) -> Execution:
        """Note what the transaction is about to do; return what is known of the execution now."""
        if self.readers is not None:
            execution = self.readers.judged(execution, target, shape, reads=reads)
        if shape.locks:
            self.session._routed_transaction().locks = True
        for one in target.destinations if shape.writes else ():
            # In a CTE, which commits with all else that is written.
            self.writes.note(one.database)
        return execution

    def _sent(self, execution: Execution, target: Target, tokens: bool) -> Any:
        way = self._way(target.tier)
        if way is not None:
            return way.execute(execution, target)
        reads = isinstance(resolved(execution.statement), _READS)
        if len(target.destinations) == 1:
            destination = target.destinations[0]
            self._last[:] = (destination.database,)
            make = execution.on if reads or execution.reading is not None else execution.write_on
            return make(destination, self, token=tokens)
        return self._at_several(execution, target, tokens)

    def _at_several(self, execution: Execution, target: Target, tokens: bool) -> Any:
        statement, params = execution.statement, execution.params
        if target.reach is Reach.COPIES:
            writes = [partial(execution.write_on, one, self) for one in target.destinations]
            return write_copies(statement, params, target.destinations, writes, self.writes.tear)
        if tokens:
            self.loading.refuse_ambiguous(statement)
        options = execution.flushed(self.session)
        reads = [
            partial(execution.on, one, self, token=tokens, **options) for one in target.destinations
        ]
        return concatenate(fan_out(statement, params, target, reads, execution.seconds))

    def _exactly(self, execution: Execution, target: Target, shape: Shape) -> Any:
        if target.tier is Tier.MERGED:
            tokens = shape.tokens and is_orm(resolved(execution.statement))
            if tokens:
                self.tell_shards_apart()
                self.loading.refuse_ambiguous(resolved(execution.statement))
            found = self.merging.execute(execution, target, shape, tokens=tokens)
            if found is not None:
                return found
        return self.gathering.execute(execution)

    def _is_foreign(self, bind: Any) -> bool:
        return bind is not None and self.wiring.engines.name_of(bind) is None

    def binds_of(self, destination: Destination) -> Mapping[str, Any]:
        """Return the bind arguments that send a statement to `destination`."""
        binds = self._binds.get(destination.name)
        if binds is None:
            engine = self.wiring.engines[destination.database]
            binds = {**_bind_argument(destination), "bind": engine}
            self._binds[destination.name] = binds
        return binds

    # -- plans -----------------------------------------------------------------------------

    def plan(self, execution: Execution) -> Plan:
        """Return where an execution goes."""
        return self._plan(execution, resolved(execution.statement))

    def _flush_before(self, statement: Any, options: Mapping[str, Any]) -> None:
        """Flush as the execution would, so that lookup tables know of pending rows, too."""
        if self.unique is not None and is_orm(statement) and autoflushes(statement, options):
            self.session._autoflush()

    def _plan(self, execution: Execution, statement: Any) -> Plan:
        self._flush_before(statement, execution.options)
        around = self.circumstances(statement, execution.options, execution.arguments)
        plan = self._target(execution, around)
        if around.hint is None:
            for hint in self.places.candidates(execution.arguments):
                plan = self._target(execution, replace(around, hint=hint))
                if not _is_elsewhere(plan):
                    break
        elif _is_elsewhere(plan) and loading_relationship(statement) is not None:
            # An option that a loader passed on; it does not reach other keyspaces.
            plan = self._target(execution, replace(around, hint=None))
        return plan

    def _target(self, execution: Execution, around: Circumstances) -> Plan:
        return self.wiring.planner.target(execution.statement, execution.params, around)

    def circumstances(
        self,
        statement: Any = None,
        options: Mapping[str, Any] = _EMPTY,
        arguments: Mapping[str, Any] = _EMPTY,
    ) -> Circumstances:
        """Return what a statement executed now meets besides its own text."""
        hint = self._hint(statement, arguments)
        token = self.loading.near(statement, options) if options else None
        plain = self._plain
        if isinstance(statement, Insert):
            plain = replace(plain, locate=self.claim)
        if options and FOUND in options:
            plain = replace(plain, found=True)
        scatter = scatter_option(statement, options)
        if scatter is not None:
            plain = replace(plain, scatter=scatter)
        if self.pins or GUARD in options:
            guard = self.guarding.guard_of(statement, options)
            plain = plain if guard is None else replace(plain, only=guard.only)
        if hint is None and token is None and not self.pins:
            return plain
        near: dict[str, str] = {}
        if token is not None:
            self.tell_shards_apart()
            keyspace, _, shard = token.partition("/")
            self.pins.check(self.wiring.sharded(keyspace), shard)
            near[keyspace] = shard
        preferred = self.pins.databases() or self._last
        return replace(plain, hint=hint, pinned=self.pins.shards(), near=near, preferred=preferred)

    def _hint(self, statement: Any, arguments: Mapping[str, Any]) -> Destination | None:
        opaque = is_opaque(statement)
        if arguments:
            hint = self.places.named(arguments, self.claim if opaque else self.propose)
            if hint is not None:
                return hint
        shard = hinted_shard(statement)
        if shard is not None:
            return self.wiring.destination(shard)
        if opaque and not self.places.candidates(arguments):
            return self.places.of_opaque(arguments)
        return None

    # -- identities ------------------------------------------------------------------------

    def tell_shards_apart(self) -> None:
        """Prepare the session's identity map for rows that carry their shard."""
        tell_shards_apart(self.session.identity_map, self.wiring.needs_token)

    # -- flushes ---------------------------------------------------------------------------

    def flushing(self) -> Flushing:
        """Return the routing of one flush."""
        return Flushing(self)


def _held(found: ref[RoutingSession]) -> RoutingSession:
    session = found()
    if session is None:
        raise RoutingError("R206", "the session is gone: keep it while its results are read")
    return session


_UNSEEN = (Insert, FromStatement)


def _is_elsewhere(plan: Plan) -> bool:
    refusal = plan[0].refusal
    apart = refusal is not None and refusal.id == "R303"
    return apart or plan[0].tier is Tier.GATHERED


def _bind_argument(destination: Destination) -> dict[str, str]:
    if destination.shard is not None:
        return {"shard": destination.shard}
    return {"database": destination.database}
