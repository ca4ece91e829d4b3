"""`AsyncRoutingSession`: SQLAlchemy's `AsyncSession` over all the databases of a map.

SQLAlchemy runs a synchronous session in a greenlet and waits outside of it.  So routing,
flushing and merging are those of `RoutingSession`; only the engines are others.
"""

from __future__ import annotations

from asyncio import current_task
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Mapper, Session

from router.engines_async import AsyncEngines
from router.errors import RoutingError
from router.hooks.colour import greenlet_spawn
from router.session.partition import Partition, Pin, Pins, Using
from router.session.registry import Scopes
from router.session.sync import RoutingSession
from router.session.wiring import Wiring

T = TypeVar("T")


class AsyncSide:
    """The asyncio engines of a router, and its wiring over them."""

    def __init__(self, wiring: Wiring) -> None:
        self.engines = AsyncEngines(wiring.shard_map)
        self.wiring = wiring.over(self.engines.sync_engines)


class AsyncWired(Protocol):
    """What has an asyncio side: the router."""

    @property
    def async_side(self) -> AsyncSide:
        """Return what the router's asyncio sessions share."""
        ...


class AsyncPartition:
    """Context manager that pins a scope to the shard of a key, plain or asynchronous.

    Parameters
    ----------
    find:
        Finds the shard.
    asks:
        Finding it asks a database, so only ``async with`` can.
    """

    def __init__(self, find: Callable[[], Partition], *, asks: bool) -> None:
        self._find = find
        self._found = None if asks else find()

    def __enter__(self) -> Pin:
        if self._found is None:
            raise RoutingError("R210", "the shard of this partition's key is in a directory")
        return self._found.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._found is not None:
            self._found.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Pin:
        if self._found is None:
            self._found = await greenlet_spawn(self._find)
        return self._found.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


class AsyncRoutingSession(AsyncSession):
    """An `AsyncSession` whose statements and rows go where the shard map says.

    Takes every argument of `AsyncSession`.  Without a router, or given `bind` or `binds`, it
    behaves exactly as `AsyncSession` does.  Made by ``Router.async_sessionmaker()``.
    """

    sync_session_class: type[Session] = RoutingSession
    sync_session: RoutingSession

    def __init__(self, bind: Any = None, *, router: AsyncWired | None = None, **kw: Any) -> None:
        if router is None:
            super().__init__(bind, **kw)
        else:
            self._side = router.async_side
            super().__init__(bind, router=self._side, **kw)

    async def get(self, entity: type[T] | Mapper[T], ident: Any, **kw: Any) -> T | None:
        """Return the object with the primary key `ident`, or None; see `RoutingSession.get`.

        Takes the arguments of `Session.get`, `bind_arguments` with them.
        """
        found: T | None = await greenlet_spawn(self.sync_session.get, entity, ident, **kw)
        return found

    async def get_one(self, entity: type[T] | Mapper[T], ident: Any, **kw: Any) -> T:
        """Return the object with the primary key `ident`; see `get`.

        Raises
        ------
        sqlalchemy.exc.NoResultFound
            There is none.
        """
        found: T = await greenlet_spawn(self.sync_session.get_one, entity, ident, **kw)
        return found

    def partition(self, key: Any, *, keyspace: str, guard: bool = False) -> AsyncPartition:
        """Pin the session to the shard of `key` while the context lasts.

        Plain ``with`` does where the key itself says its shard; for the keys of a directory
        it is ``async with``.  See `RoutingSession.partition`.

        >>> with session.partition(7, keyspace="shop"):
        ...     (await session.scalars(select(Order))).all()
        """

        def find() -> Partition:
            return self.sync_session.partition(key, keyspace=keyspace, guard=guard)

        return AsyncPartition(find, asks=self._asks(keyspace))

    def using(self, role: str) -> Using:
        """Read from servers of a role while the context lasts; see `RoutingSession.using`."""
        return self.sync_session.using(role)

    async def token(self) -> str | None:
        """Return what another session has to be given; see `RoutingSession.token`."""
        found: str | None = await greenlet_spawn(self.sync_session.token)
        return found

    def after(self, token: str | None) -> None:
        """Read no replica that has not yet seen what `token` says; see `RoutingSession.after`."""
        self.sync_session.after(token)

    # Since SQLAlchemy 2.1.
    if hasattr(AsyncSession, "get_async_bind"):

        def get_async_bind(
            self, mapper: Any = None, clause: Any = None, bind: Any = None, **kw: Any
        ) -> AsyncEngine | AsyncConnection:
            """Return the asyncio engine for a mapper, a clause, or a place in the map."""
            routing = self.sync_session._routing
            if bind is None and routing is not None:
                name = routing.wiring.engines.name_of(self.get_bind(mapper, clause, **kw))
                if name is not None:
                    return self._side.engines[name]
            return super().get_async_bind(mapper, clause, bind, **kw)

    def _asks(self, keyspace: str) -> bool:
        """Return whether the shards of the keyspace's keys are in a table."""
        routing = self.sync_session._routing
        return routing is not None and keyspace in routing.wiring.directories

    def _share_pins(self, pins: Pins) -> None:
        self.sync_session._share_pins(pins)


class AsyncRoutingScopedSession(Scopes, async_scoped_session[AsyncRoutingSession]):
    """An `async_scoped_session` whose partitions last for the scope, not only for one session.

    Each task that used it has to ``await registry.remove()`` at its end.
    """

    def __init__(
        self,
        session_factory: async_sessionmaker[AsyncRoutingSession],
        scopefunc: Callable[[], Any] = current_task,
    ) -> None:
        super().__init__(session_factory, scopefunc)
        self._open(scopefunc)

    def __call__(self, **kw: Any) -> AsyncRoutingSession:
        """Return the scope's session, made on first use; see `async_scoped_session`."""
        session = super().__call__(**kw)
        if kw:
            self._share(session)
        return session

    async def remove(self) -> None:
        """Close and forget the scope's session; partitions that are entered stay."""
        await super().remove()
        self._forget()

    async def token(self) -> str | None:
        """Return the token of the scope's session; see `RoutingSession.token`."""
        return await self().token()

    def partition(self, key: Any, *, keyspace: str, guard: bool = False) -> AsyncPartition:
        """Pin the current scope to the shard of `key`; see `AsyncRoutingSession.partition`."""
        session = self()

        def find() -> Partition:
            pin = session.sync_session.partition(key, keyspace=keyspace, guard=guard).value
            return Partition(self._entered, pin, self._left)

        return AsyncPartition(find, asks=session._asks(keyspace))
