"""`Router`: owns the map and the engines, and hands out sessions."""

from __future__ import annotations

import os
from asyncio import current_task
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import sessionmaker

from router.errors import Problem, ShardMapError
from router.session.registry import RoutingScopedSession
from router.session.sync import RoutingSession
from router.transaction.protocol import GRACE_SECONDS, KEEP_SECONDS, Outcome

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import async_sessionmaker

    from router.backfill import LookupReport
    from router.engines import Engines
    from router.engines_async import AsyncEngines
    from router.explain import Plan
    from router.recovering import Watch
    from router.route.target import Target
    from router.session.aio import AsyncRoutingScopedSession, AsyncRoutingSession, AsyncSide
    from router.shardmap.model import ShardMap
    from router.transaction.recovery import Recovered, Survey

Metadata = MetaData | Mapping[str, MetaData] | None


class Router:
    """One shard map and the engines of its databases.

    Parameters
    ----------
    shard_map:
        The map, as `router.shardmap` loads it.
    metadata:
        The tables: one `MetaData`, or several by the names that ``binds: metadata:`` uses.

    Raises
    ------
    ShardMapError
        The map and the metadata contradict each other; names every problem.
    """

    def __init__(self, shard_map: ShardMap, metadata: Metadata = None) -> None:
        # Planning is loaded with the first router, so that importing the package stays cheap.
        from router.session.wiring import Wiring
        from router.shardmap.check import check_metadata

        named = _named(metadata)
        problems = check_metadata(shard_map, named)
        if problems:
            raise ShardMapError(problems)
        self.wiring = Wiring(shard_map, named)
        self.shard_map = self.wiring.shard_map
        self._async_side: dict[str, AsyncSide] = {}
        self._watching: Watch | None = None

    @classmethod
    def from_yaml(
        cls,
        path: str | os.PathLike[str],
        *,
        metadata: Metadata = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the map from a YAML file.

        ``${NAME}`` in it is taken from `environ`, the process's environment by default.

        Raises
        ------
        ShardMapError
            The file cannot be read or is wrong; names every problem with its place.
        """
        from router.shardmap.load import load_file

        return cls(load_file(path, environ=os.environ if environ is None else environ), metadata)

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        *,
        metadata: Metadata = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Take the map from a dict of the same structure as the YAML; see `from_yaml`."""
        from router.shardmap.load import load_dict

        return cls(load_dict(data, environ=os.environ if environ is None else environ), metadata)

    # -- sessions --------------------------------------------------------------------------

    def sessionmaker(self, **kw: Any) -> sessionmaker[RoutingSession]:
        """Return a `sessionmaker` of sessions that route; takes every argument of it."""
        kw.setdefault("class_", RoutingSession)
        self._watch()
        return sessionmaker(router=self, **kw)

    def scoped_session(
        self, scopefunc: Callable[[], Any] | None = None, **kw: Any
    ) -> RoutingScopedSession:
        """Return a `scoped_session`: one session per thread, or per value of `scopefunc()`.

        Further arguments are those of `sessionmaker`.
        """
        return RoutingScopedSession(self.sessionmaker(**kw), scopefunc)

    def async_sessionmaker(self, **kw: Any) -> async_sessionmaker[AsyncRoutingSession]:
        """Return an `async_sessionmaker` of sessions that route; takes every argument of it.

        Raises
        ------
        ShardMapError
            For a database, no driver is installed that asyncio can wait for.
        """
        from sqlalchemy.ext.asyncio import async_sessionmaker

        from router.session.aio import AsyncRoutingSession

        kw.setdefault("class_", AsyncRoutingSession)
        self._watch()
        # Tells here, not in a task, what is missing.
        self.async_side  # noqa: B018
        return async_sessionmaker(router=self, **kw)

    def async_scoped_session(
        self, scopefunc: Callable[[], Any] = current_task, **kw: Any
    ) -> AsyncRoutingScopedSession:
        """Return an `async_scoped_session`: one session per task, or per value of `scopefunc()`.

        Further arguments are those of `async_sessionmaker`.
        """
        from router.session.aio import AsyncRoutingScopedSession

        return AsyncRoutingScopedSession(self.async_sessionmaker(**kw), scopefunc)

    @property
    def async_side(self) -> AsyncSide:
        """What asyncio sessions share; made when first asked for."""
        from router.session.aio import AsyncSide

        if not self._async_side:
            # Of threads that ask at once, all get the one that was first.
            self._async_side.setdefault("", AsyncSide(self.wiring))
        return self._async_side[""]

    # -- places ----------------------------------------------------------------------------

    @property
    def engines(self) -> Engines:
        """The engines, by database name; each is created when first asked for."""
        return self.wiring.engines

    @property
    def async_engines(self) -> AsyncEngines:
        """The engines of asyncio sessions, by database name; to be used in one event loop."""
        return self.async_side.engines

    @property
    def replicas(self) -> Mapping[str, tuple[Engine, ...]]:
        """The engines of each database's replicas, in the order of the map.

        Their connections cannot write.
        """
        return {name: self.engines.replicas_of(name) for name in self.engines}

    def engine_for(self, keyspace: str, key: Any = None) -> Engine:
        """Return the engine of the shard of `key`, or of an unsharded keyspace.

        Raises
        ------
        RoutingError
            There is no such keyspace, or the key has no shard or is of the wrong type.
        """
        from router.shardmap.model import UnshardedKeyspace

        found = self.wiring.keyspace(keyspace)
        if isinstance(found, UnshardedKeyspace):
            return self.engines[found.database]
        return self.engines[self.wiring.home(found, key).database]

    def target(self, statement: Any, params: Any = None) -> Target:
        """Return where `statement` would go, and why; nothing is executed."""
        return self.wiring.target(statement, params)

    def explain(self, statement: Any, params: Any = None) -> Plan:
        """Return what would happen to `statement`; ``str()`` of it is a readable tree.

        Nothing is executed.

        >>> print(router.explain(select(Order).order_by(Order.created).limit(10)))
        """
        from router.explain import explain

        return explain(self.wiring, statement, params)

    # -- the databases ---------------------------------------------------------------------

    def create_all(self) -> None:
        """Create every table in the databases where the map puts it, if it is not there."""
        from router.schema import create_all

        create_all(self.wiring)

    def drop_all(self) -> None:
        """Drop every table from the databases where the map puts it."""
        from router.schema import drop_all

        drop_all(self.wiring)

    def backfill_unique(self, name: str) -> LookupReport:
        """Add what the lookup table of a unique key lacks, beside live traffic.

        Every process must know the map's entry before this begins.  When no two rows have the
        same values, the lookup table is complete and is used to find rows from then on.

        Raises
        ------
        RoutingError
            There is no such key, or no lookup table.
        """
        from router.backfill import backfill

        return backfill(self.wiring, name)

    def verify_unique(self, name: str) -> LookupReport:
        """Compare the lookup table of a unique key with all rows; nothing is written."""
        from router.backfill import verify

        return verify(self.wiring, name)

    # -- commits over several databases ----------------------------------------------------

    def recover(
        self, *, grace: float = GRACE_SECONDS, keep: float = KEEP_SECONDS
    ) -> list[Recovered]:
        """Settle in-doubt transactions, which crashes have left; return what was done.

        Any process may do it, any number at once, beside live traffic.

        Parameters
        ----------
        grace:
            Seconds for which a branch is left to a coordinator that may be alive.
        keep:
            Seconds after which verdicts that have served are deleted from the decision logs; at
            least 20, for which coordinators may still ask.
        """
        from router.recovering import recover

        return recover(self.wiring, grace, keep)

    def in_doubt(self) -> Survey:
        """Return what is prepared in the databases now, and which do not answer."""
        from router.recovering import survey

        return survey(self.wiring)

    def outcome(self, gtid: str) -> Outcome:
        """Return how the transaction of a `TransactionInDoubtError` has ended.

        One that nobody has decided will never be committed from then on.

        Raises
        ------
        RoutingError
            `gtid` is no transaction's name, or of one that is too old.
        """
        from router.recovering import outcome

        return outcome(self.wiring, gtid)

    def _watch(self) -> None:
        """Begin to recover in the background, if the map wants it."""
        seconds = self.shard_map.recover_every
        if seconds is not None and (self._watching is None or not self._watching.is_running):
            from router.recovering import Watch

            self._watching = Watch(self.wiring, seconds)

    def check(self) -> tuple[Problem, ...]:
        """Compare the map with the databases and return every problem; empty if all is well.

        Waits for a database no longer than its connect timeout.
        """
        from router.check import check

        return check(self.wiring)

    def dispose(self) -> None:
        """Close every pooled connection but those of asyncio sessions; see `aclose`.

        Those in use are closed when they are given back.  The router can be used again.
        """
        if self._watching is not None:
            self._watching.stop()
        self.engines.dispose()

    async def aclose(self) -> None:
        """Close every pooled connection; the router can be used again, in any event loop."""
        try:
            for side in self._async_side.values():
                await side.engines.dispose()
        finally:
            self.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _named(metadata: Metadata) -> dict[str, MetaData]:
    if metadata is None:
        return {}
    return {"default": metadata} if isinstance(metadata, MetaData) else dict(metadata)
