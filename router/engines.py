"""Database names to engines: created when first used, fresh pools after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from router.errors import RoutingError, ShardUnavailableError
from router.hooks import driver, xa
from router.lanes.workers import Workers
from router.shardmap.model import Database, ShardMap

CONNECT_TIMEOUT = 10
"""Seconds after which an unreachable server is given up, unless the map says otherwise."""

REPLICA_CONNECT_TIMEOUT = 3
"""The same for a replica, which others can stand in for."""

_TIMEOUT_ARGUMENT = {
    "psycopg": "connect_timeout",
    "psycopg2": "connect_timeout",
    "pymysql": "connect_timeout",
    "mysqldb": "connect_timeout",
    "mysqlconnector": "connection_timeout",
    "mariadbconnector": "connect_timeout",
    "aiomysql": "connect_timeout",
    "asyncmy": "connect_timeout",
}


class Engines(Mapping[str, Engine]):
    """The engines of a map's databases, by name.  Safe to use from several threads."""

    def __init__(self, shard_map: ShardMap) -> None:
        self._databases = shard_map.databases
        self._engines: dict[str, Engine] = {}
        self._replicas: dict[str, tuple[Engine, ...]] = {}
        self._on_fork: list[Callable[[], None]] = []
        self._names: dict[object, str] = {}
        self._lock = threading.Lock()
        self._workers = Workers()
        _living.add(self)

    def __getitem__(self, name: str) -> Engine:
        engine = self._engines.get(name)
        return engine if engine is not None else self._create(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._databases)

    def __len__(self) -> int:
        return len(self._databases)

    def __contains__(self, name: object) -> bool:
        return name in self._databases

    def get(self, name: str, default: Any = None) -> Any:
        """Return the engine called `name`, or `default`."""
        return self[name] if name in self._databases else default

    def __hash__(self) -> int:
        return id(self)

    def name_of(self, engine: Engine | Connection | None) -> str | None:
        """Return the database name of `engine`, or None if it is not one of these."""
        return self._names.get(engine)

    def replicas_of(self, name: str) -> tuple[Engine, ...]:
        """Return the engines of the replicas of a database, in the order of the map."""
        found = self._replicas.get(name)
        if found is None:
            database = self._known(name)
            made = tuple(self._replica(database, one.url) for one in database.replicas)
            # Of threads that ask at once, all get those that were first.
            found = self._replicas.setdefault(name, made)
        return found

    def on_fork(self, call: Callable[[], None]) -> None:
        """Let `call` be made in a process that is forked from this one."""
        self._on_fork.append(call)

    def dispose(self) -> None:
        """Close every pooled connection, and those in use as soon as they are given back.

        The engines can be used again.
        """
        with self._lock:
            for engine in self._all():
                pool = engine.pool
                engine.dispose()
                retire(pool)
                # What another thread has given back meanwhile.
                pool.dispose()
            self._workers.rest()

    def after_fork(self) -> None:
        """Forget the parent's connections without closing them: they are still its own."""
        self._lock = threading.Lock()
        # Threads do not survive a fork, and the parent's may have held their lock.
        self._workers.forget()
        for engine in self._all():
            driver.forget(engine)
            _of_parents.append(engine.pool)
            engine.dispose(close=False)
        for call in self._on_fork:
            call()

    def _all(self) -> Iterator[Engine]:
        yield from self._engines.values()
        for replicas in self._replicas.values():
            yield from replicas

    def _known(self, name: str) -> Database:
        database = self._databases.get(name)
        if database is None:
            known = ", ".join(self._databases)
            raise RoutingError("R206", f"there is no database {name!r}; the map has {known}")
        return database

    def _create(self, name: str) -> Engine:
        database = self._known(name)
        with self._lock:
            if name not in self._engines:
                engine = self._made(database, database.url)
                driver.install(engine, self._workers)
                self._names[engine] = name
                self._engines[name] = engine
            return self._engines[name]

    def _replica(self, database: Database, url: URL) -> Engine:
        engine = self._made(replace(database, url=url), url, REPLICA_CONNECT_TIMEOUT)
        driver.install(engine, self._workers)
        event.listen(engine, "connect", partial(_only_read, engine.dialect.name))
        return engine

    def _made(self, database: Database, url: URL, timeout: int = CONNECT_TIMEOUT) -> Engine:
        return configured(database, url, create_engine, timeout)


def retire(pool: Pool) -> None:
    """Let a pool that nobody asks any more close what is given back to it."""
    event.listen(pool, "checkin", _close)


def _close(connection: object, record: ConnectionPoolEntry) -> None:
    del connection
    record.close()


_living: weakref.WeakSet[Engines] = weakref.WeakSet()
# Drivers close a connection that is collected, or warn that nobody has closed it.
_of_parents: list[object] = []


def _refresh_after_fork() -> None:
    for engines in list(_living):
        engines.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_refresh_after_fork)


def configured(
    database: Database, url: URL, create: Callable[..., Engine], timeout: int = CONNECT_TIMEOUT
) -> Engine:
    """Return the engine that `create` makes for `url`, as the map has it for `database`."""
    options: dict[str, Any] = dict(database.engine)
    arguments = dict(options.get("connect_args", {}))
    driver = url.get_driver_name()
    argument = _TIMEOUT_ARGUMENT.get(driver)
    if argument is not None and argument not in url.query:
        arguments.setdefault(argument, timeout)
    limited = driver == "pymysql" and "read_timeout" not in {**arguments, **url.query}
    if limited:
        # Its connect_timeout ends with the TCP handshake; a server may fall silent after it.
        seconds = url.query.get("connect_timeout", arguments.get("connect_timeout"))
        arguments["read_timeout"] = int(str(seconds))
    engine = create(url, **{**options, "connect_args": arguments})
    xa.install(engine.dialect)
    event.listen(engine, "handle_error", partial(_name_the_database, database))
    if limited:
        event.listen(engine, "connect", _wait_for_statements)
    return engine


_READ_ONLY = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


def _only_read(dialect: str, connection: Any, record: object) -> None:
    """Let a connection to a replica refuse to write, whatever it is told by mistake."""
    del record
    cursor = connection.cursor()
    cursor.execute(_READ_ONLY[dialect])
    cursor.close()
    connection.commit()


def _name_the_database(database: Database, context: ExceptionContext) -> None:
    # Without a connection, connecting is what failed.
    if context.connection is None and isinstance(
        context.sqlalchemy_exception, (sa_exc.OperationalError, sa_exc.InterfaceError)
    ):
        raise unavailable(database, context.original_exception)  # type: ignore[arg-type]


def _wait_for_statements(connection: Any, record: object) -> None:
    """Take the limit off a PyMySQL connection that is there; statements take what they take."""
    del record
    connection._read_timeout = None


def unavailable(database: Database, cause: Exception) -> ShardUnavailableError:
    """Return the error for a database that cannot be reached, without its password."""
    url = database.url
    what = f"database {database.name} at {url.host or url.database}"
    if url.port:
        what += f":{url.port}"
    reason = " ".join(str(cause).split())
    if url.password:
        reason = reason.replace(str(url.password), "***")
    return ShardUnavailableError(
        database.name, f"{what} cannot be reached: {reason}", cause, where=database.where
    )
