"""`RoutingSession`: SQLAlchemy's `Session` over all the databases of a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event, inspect, util
from sqlalchemy.schema import DefaultGenerator

from router.errors import CrossShardError, RoutingError
from router.hooks import flush as flush_hook
from router.hooks.handlers import route_last
from router.hooks.transaction import adopt
from router.route.outside import UNGUARDED
from router.session.bulk import WritesInBulk
from router.session.execution import Execution
from router.session.partition import Partition, Pins

if TYPE_CHECKING:
    from router.session.ending import Ending
    from router.session.flushing import Flushing
    from router.session.routing import Routing
    from router.session.wiring import Wired

_NOTHING: Mapping[str, Any] = util.EMPTY_DICT


class RoutingSession(WritesInBulk):
    """A `Session` whose statements and rows go where the shard map says.

    Takes every argument of `Session`, and `after`, a token that another session has given.
    Without a router, or given `bind` or `binds`, it behaves exactly as `Session` does.  Made
    by ``Router.sessionmaker()``.
    """

    _flush_routing: Flushing | None = None

    def __init__(
        self,
        bind: Any = None,
        *,
        router: Wired | None = None,
        after: str | None = None,
        **kw: Any,
    ) -> None:
        super().__init__(bind, **kw)
        self._routing: Routing | None = None
        self._two_phase = False
        if router is None or bind is not None or kw.get("binds"):
            self.after(after)
            return
        self._routing = router.wiring.routing(self)
        self._two_phase = router.wiring.shard_map.two_phase or bool(kw.get("twophase"))
        self.twophase = False
        self.after(after)

    # -- statements ------------------------------------------------------------------------

    # Hidden from type checkers, so that they see the precise signatures of `Session`.
    if not TYPE_CHECKING:

        def execute(
            self,
            statement: Any,
            params: Any = None,
            *,
            execution_options: Any = _NOTHING,
            bind_arguments: Any = None,
            **kw: Any,
        ) -> Any:
            """Execute `statement` where it belongs; see `Session.execute`.

            ``bind_arguments`` may say where: ``shard="shop/s0"``, or ``keyspace="shop"`` with
            ``shard_key=7``.

            Raises
            ------
            CrossShardError
                The statement spans shards and could be inexact there.
            RoutingError
                A key has the wrong type, or the statement leaves the session's partition.
            """
            routing = self._routing
            binds = bind_arguments
            if routing is not None:
                if self.dispatch.do_orm_execute and not kw:
                    # They may change the statement, so that they go first.
                    kw = {"_add_event": partial(route_last, routing, execution_options)}
                    return super().execute(
                        statement,
                        params,
                        execution_options=execution_options,
                        bind_arguments=bind_arguments,
                        **kw,
                    )
                plan = routing.plain_plan(statement, params, execution_options, bind_arguments)
                binds = plan and routing.at_once(plan, statement, execution_options)
                if binds is None:
                    given = bind_arguments or _NOTHING
                    return routing.dispatch(
                        Execution(super().execute, statement, params, execution_options, given, kw),
                        plan,
                    )
            return super().execute(
                statement, params, execution_options=execution_options, bind_arguments=binds, **kw
            )

        def scalar(
            self,
            statement: Any,
            params: Any = None,
            *,
            execution_options: Any = _NOTHING,
            bind_arguments: Any = None,
            **kw: Any,
        ) -> Any:
            """Execute `statement` and return its first column's first value; see `execute`."""
            if isinstance(statement, DefaultGenerator):
                # What makes a value, such as a sequence, gives it and no result.
                run, given = super().scalar, bind_arguments or _NOTHING
                if self._routing is None:
                    return run(statement, params, bind_arguments=bind_arguments, **kw)
                return self._routing.dispatch_to(run, statement, params, execution_options, given)
            return self.execute(
                statement,
                params,
                execution_options=execution_options,
                bind_arguments=bind_arguments,
                **kw,
            ).scalar()

        def scalars(
            self,
            statement: Any,
            params: Any = None,
            *,
            execution_options: Any = _NOTHING,
            bind_arguments: Any = None,
            **kw: Any,
        ) -> Any:
            """Execute `statement` and return its first column; see `execute`."""
            return self.execute(
                statement,
                params,
                execution_options=execution_options,
                bind_arguments=bind_arguments,
                **kw,
            ).scalars()

        def get(self, entity: Any, ident: Any, **kw: Any) -> Any:
            """Return the object with the primary key `ident`, or None; see `Session.get`.

            Where the primary key does not contain the shard key and nothing names the shard,
            every shard is asked.

            Raises
            ------
            CrossShardError
                Rows with this primary key are on several shards.
            """
            routing = self._routing
            if routing is None:
                return super().get(entity, ident, **kw)
            if routing.wiring.tells_apart(entity):
                found = self._get_from_shards(routing, entity, ident, kw)
            else:
                found = super().get(entity, ident, **kw)
            if routing.pins.entered and found is not None:
                if routing.guarding.hides(inspect(found)):
                    return None
                routing.loading.check_partition(inspect(found))
            return found

    def _get_from_shards(
        self, routing: Routing, entity: Any, ident: Any, kw: Mapping[str, Any]
    ) -> Any:
        """Return the object of a class whose primary key may be on any shard."""
        routing.tell_shards_apart()
        if kw.get("identity_token") is not None:
            return super().get(entity, ident, **kw)
        mapper: Any = inspect(entity)
        found = []
        for shard in routing.loading.shards_to_ask(mapper, ident, kw):
            arguments = {**(kw.get("bind_arguments") or {}), "shard": shard}
            options = {**kw, "bind_arguments": arguments, "identity_token": shard}
            found.append(super().get(entity, ident, **options))
        found = [one for one in found if one is not None]
        if len(found) > 1:
            what = f"{mapper.class_.__name__} {ident!r} is on {len(found)} shards"
            raise CrossShardError("R306", what)
        return found[0] if found else None

    # -- binds -----------------------------------------------------------------------------

    def get_bind(
        self,
        mapper: Any = None,
        *,
        clause: Any = None,
        bind: Any = None,
        shard: str | None = None,
        keyspace: str | None = None,
        shard_key: Any = None,
        database: str | None = None,
        reading: tuple[str, Any] | None = None,
        **kw: Any,
    ) -> Engine | Connection:
        """Return the engine for a mapper, a clause, or a place in the map.

        Raises
        ------
        RoutingError
            The mapper's table is sharded and no shard is named.
        """
        routing = self._routing
        if reading is not None and routing is not None and routing.readers is not None:
            # Asked for once what was pending has been flushed.
            return routing.readers.bind(*reading)
        if bind is not None or routing is None:
            return super().get_bind(mapper, clause=clause, bind=bind, **kw)
        if routing.pins and routing.writes.aimed is None:
            routing.pins.refuse_engine()
        return routing.places.engine_for(
            {
                "mapper": mapper,
                "clause": clause,
                "shard": shard,
                "keyspace": keyspace,
                "shard_key": shard_key,
                "database": database,
            }
        )

    def bind_mapper(self, mapper: Any, bind: Any) -> None:
        """Bind a class; only of a session without a router: a map says where classes are."""
        self._refuse_binds()
        super().bind_mapper(mapper, bind)

    def bind_table(self, table: Any, bind: Any) -> None:
        """Bind a table; only of a session without a router: a map says where tables are."""
        self._refuse_binds()
        super().bind_table(table, bind)

    def _refuse_binds(self) -> None:
        if self._routing is not None:
            raise RoutingError("R213", "a bind of one session, which the map knows nothing of")

    def connection(self, bind_arguments: Any = None, execution_options: Any = None) -> Connection:
        """Return the transaction's connection to the database that `bind_arguments` name."""
        routing = self._routing
        if routing is None:
            return super().connection(bind_arguments, execution_options)
        arguments = dict(bind_arguments or {})
        options = dict(execution_options or {})
        routing.pins.refuse_connection(allowed=options.pop(UNGUARDED, False))
        find = self._bind_of if routing.pins.guard is None else routing.places.engine_for
        bind = arguments.pop("bind", None) or find(arguments)
        name = routing.wiring.engines.name_of(bind)
        if name is None:
            routing.pins.refuse("an explicit bind")
        else:
            routing.pins.check_database(name)
        # What is done with the connection is not seen: it may write.
        routing.writes.note_bind(bind)
        return super().connection({"bind": bind}, options or None)

    def _bind_of(self, arguments: Mapping[str, Any]) -> Any:
        return self.get_bind(**arguments)

    def _connection_to(self, database: str) -> Connection:
        """Return the transaction's connection to `database`, by its name in the map."""
        return super().connection({"bind": self._require_routing().wiring.engines[database]})

    # -- partitions ------------------------------------------------------------------------

    def partition(self, key: Any, *, keyspace: str, guard: bool = False) -> Partition:
        """Pin the session to the shard of `key` while the context lasts.

        Reads see only that shard; whatever would leave it is refused with `RoutingError`.

        >>> with session.partition(7, keyspace="shop"):
        ...     session.scalars(select(Order)).all()

        Parameters
        ----------
        key:
            The shard key: one value, or a tuple for a key of several columns.
        keyspace:
            The sharded keyspace that the key is of.
        guard:
            Whether the session sees and writes rows of this very key alone, and not of others
            on its shard.  Statements of the ORM get its criterion; what is then not proven to
            be about the key is refused (R215), unless the statement has the execution option
            ``unguarded=True``.  Reference tables are not guarded.
        """
        return self._require_routing().partition(key, keyspace, guard=guard)

    def _share_pins(self, pins: Pins) -> None:
        """Let `pins`, those of a scope, be the session's partitions."""
        if self._routing is not None:
            self._routing.pins = pins

    # -- seams of SQLAlchemy's session ------------------------------------------------------

    def _merge(self, state: Any, state_dict: Any, **kw: Any) -> Any:
        self._lead()
        if self._routing is not None and state.key is None:
            state.identity_token = self._routing.loading.token_of_transient(state)
        return super()._merge(state, state_dict, **kw)

    def _identity_lookup(self, mapper: Any, *args: Any, **kw: Any) -> Any:
        """Find an object in the session, for `get()` and for many-to-one relationships."""
        found: Any = super()._identity_lookup(mapper, *args, **kw)
        routing = self._routing
        if routing is None or not routing.pins.entered or not isinstance(found, mapper.class_):
            return found
        return None if routing.guarding.hides(inspect(found)) else found

    def _refuse_connection(self) -> None:
        routing = self._routing
        if routing is not None and routing.pins and routing.writes.aimed is None:
            routing.pins.refuse_connection(allowed=False)

    def _routed_transaction(self) -> Any:
        """Return the root transaction, begun if need be, which knows what was written."""
        return self.get_transaction() or self._autobegin_t()

    def _confirmed_keys(self) -> dict[Any, str]:
        """Return what the transaction has learned from directories."""
        confirmed: dict[Any, str] = self._routed_transaction().confirmed
        return confirmed

    def _end_all(self, calls: Sequence[Callable[[], None]]) -> None:
        """End something on several databases, side by side; raise the first error at the end."""
        from router.execute.parallel import finish_all

        finish_all(calls)

    @property
    def _is_two_phase(self) -> bool:
        """Whether several databases must commit together or not at all."""
        return self._two_phase

    def _begins_branch(self, bind: Any) -> bool:
        """Return whether a transaction on `bind` has to begin as one that can be prepared."""
        if not self._two_phase or not isinstance(bind, Engine):
            return False
        return self._require_routing().wiring.branches.names_decider(bind)

    def _begin_branch(self, transaction: Any, connection: Connection) -> None:
        """Let what `connection` has just begun be a branch of the root `transaction`."""
        self._require_routing().wiring.branches.start(transaction, connection)

    def _watch_for_deadlocks(self, transaction: Any) -> None:
        """Look after a root `transaction` that is about to begin in one more database."""
        wiring = self._require_routing().wiring
        wiring.deadlocks.watch(transaction, wiring.engines.name_of)

    def _ending(self, transaction: Any) -> Ending:
        """Return how the root `transaction` ends."""
        return self._require_routing().ending(transaction, self._two_phase)


# First of all, so that other listeners already find a transaction that routes.
@event.listens_for(RoutingSession, "after_transaction_create", insert=True)
def _route_transaction(session: RoutingSession, transaction: Any) -> None:
    if session._routing is not None and (transaction.nested or transaction.parent is None):
        adopt(transaction)


@event.listens_for(RoutingSession, "before_flush")
def _route_flush(session: RoutingSession, context: Any, _: Any) -> None:
    if session._routing is not None:
        session._lead()
        flush_hook.adopt(context, session._routing.flushing())
