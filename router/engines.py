"""Database names to engines: created when first used, fresh pools after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import ExceptionContext

from router.errors import RoutingError, ShardUnavailableError
from router.hooks import driver, xa
from router.lanes.workers import Workers
from router.shardmap.model import Database, ShardMap

CONNECT_TIMEOUT = 10
"""Seconds after which an unreachable server is given up, unless the map says otherwise."""

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

    def dispose(self) -> None:
        """Close every pooled connection; the engines can be used again."""
        with self._lock:
            for engine in self._engines.values():
                engine.dispose()
            self._workers.rest()

    def after_fork(self) -> None:
        """Forget the parent's connections without closing them: they are still its own."""
        self._lock = threading.Lock()
        # Threads do not survive a fork, and the parent's may have held their lock.
        self._workers.forget()
        for engine in self._engines.values():
            driver.forget(engine)
            _of_parents.append(engine.pool)
            engine.dispose(close=False)

    def _create(self, name: str) -> Engine:
        database = self._databases.get(name)
        if database is None:
            known = ", ".join(self._databases)
            raise RoutingError("R206", f"there is no database {name!r}; the map has {known}")
        with self._lock:
            if name not in self._engines:
                engine = self._made(database)
                driver.install(engine, self._workers)
                self._names[engine] = name
                self._engines[name] = engine
            return self._engines[name]

    def _made(self, database: Database) -> Engine:
        return configured(database, database.url, create_engine)


_living: weakref.WeakSet[Engines] = weakref.WeakSet()
# Drivers close a connection that is collected, or warn that nobody has closed it.
_of_parents: list[object] = []


def _refresh_after_fork() -> None:
    for engines in list(_living):
        engines.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_refresh_after_fork)


def configured(database: Database, url: URL, create: Callable[..., Engine]) -> Engine:
    """Return the engine that `create` makes for `url`, as the map has it for `database`."""
    options: dict[str, Any] = dict(database.engine)
    arguments = dict(options.get("connect_args", {}))
    driver = url.get_driver_name()
    argument = _TIMEOUT_ARGUMENT.get(driver)
    if argument is not None and argument not in url.query:
        arguments.setdefault(argument, CONNECT_TIMEOUT)
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
