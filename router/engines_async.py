"""Database names to engines of SQLAlchemy's asyncio extension, for the same map.

The drivers of the map are replaced by those that asyncio can wait for.  Sessions work on the
`sync_engine` of each engine, below SQLAlchemy's greenlets.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from sqlalchemy import URL, Engine, event
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from router.engines import CONNECT_TIMEOUT, Engines, configured, retire
from router.errors import Problem, ShardMapError
from router.hooks.opening import LOOP
from router.shardmap.model import Database, ShardMap

_MYSQL = ("aiomysql", "asyncmy")
_DRIVERS = {
    "postgresql": ("psycopg",),
    "sqlite": ("aiosqlite",),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
"""Dialect: the drivers for asyncio, best first."""


class AsyncEngines(Mapping[str, AsyncEngine]):
    """The asyncio engines of a map's databases, by name; to be used in one event loop at a time.

    Attributes
    ----------
    sync_engines:
        The `sync_engine` of each, by name.

    Raises
    ------
    ShardMapError
        For a database, no driver is installed that asyncio can wait for.
    """

    def __init__(self, shard_map: ShardMap) -> None:
        self.sync_engines = SyncEngines(shard_map, _urls(shard_map))
        self._engines: dict[str, AsyncEngine] = {}

    def __getitem__(self, name: str) -> AsyncEngine:
        found = self._engines.get(name)
        if found is None:
            # Of threads that ask at once, all get the one that was first.
            found = self._engines.setdefault(name, AsyncEngine(self.sync_engines[name]))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.sync_engines)

    def __len__(self) -> int:
        return len(self.sync_engines)

    def __contains__(self, name: object) -> bool:
        return name in self.sync_engines

    async def dispose(self) -> None:
        """Close every pooled connection, and those in use as soon as they are given back.

        The engines can be used again, in any event loop.
        """
        for engine in self.sync_engines.made():
            pool = engine.pool
            await AsyncEngine(engine).dispose()
            retire(pool)


class SyncEngines(Engines):
    """Engines that work below greenlets only; closing their connections has to be awaited."""

    def __init__(self, shard_map: ShardMap, urls: Mapping[str, URL]) -> None:
        super().__init__(shard_map)
        self._urls = urls

    def made(self) -> list[Engine]:
        """Return the engines that were asked for, those of replicas included."""
        return list(self._all())

    def _made(self, database: Database, url: URL, timeout: int = CONNECT_TIMEOUT) -> Engine:
        driver = self._urls[database.name].get_driver_name()
        return configured(database, _with_driver(url, driver), _create, timeout)


def _create(url: URL, **options: Any) -> Engine:
    engine = create_async_engine(url, **options).sync_engine
    if engine.dialect.driver in _MYSQL:
        event.listen(engine, "do_connect", _before_connecting)
    if engine.dialect.driver == "aiomysql":
        event.listen(engine, "connect", _escape_bytes)
    if engine.dialect.name != "sqlite":
        event.listen(engine, "connect", _remember_loop)
        event.listen(engine, "checkout", _compare_loop)
    return engine


def _remember_loop(connection: object, record: Any) -> None:
    del connection
    record.info[LOOP] = asyncio.get_running_loop()


def _compare_loop(connection: object, record: Any, proxy: object) -> None:
    """Let the pool connect again where an event loop that has ended left its connections."""
    del connection, proxy
    if record.info[LOOP] is not asyncio.get_running_loop():
        raise sa_exc.DisconnectionError("a connection of another event loop")


# -- drivers -----------------------------------------------------------------------------------


def _urls(shard_map: ShardMap) -> dict[str, URL]:
    found = [(database, _driver(database)) for database in shard_map.databases.values()]
    problems = [_no_driver(database) for database, driver in found if driver is None]
    if problems:
        raise ShardMapError(problems)
    return {database.name: _with_driver(database.url, driver) for database, driver in found}


def _with_driver(url: URL, driver: str | None) -> URL:
    return url.set(drivername=f"{url.get_backend_name()}+{driver}")


def _driver(database: Database) -> str | None:
    """Return the driver that asyncio uses for `database`, None if none is installed."""
    able = _DRIVERS.get(database.url.get_backend_name(), ())
    named = database.url.get_driver_name()
    wanted = (named, *able) if named in able else able
    return next((name for name in wanted if find_spec(name) is not None), None)


def _no_driver(database: Database) -> Problem:
    backend = database.url.get_backend_name()
    able = " or ".join(_DRIVERS.get(backend, ("any",)))
    what = f"no asyncio driver is installed for database {database.name} on {backend}: {able}"
    return Problem("R126", what, database.where)


# -- MySQL and MariaDB -------------------------------------------------------------------------


def _before_connecting(dialect: Any, record: object, args: object, given: dict[str, Any]) -> None:
    """Adapt what is given to a driver for MySQL to what it understands."""
    del record, args
    if isinstance(given.get("ssl"), Mapping):
        given["ssl"] = _tls(given["ssl"])
    connect = given.get("async_creator_fn") or getattr(dialect.dbapi, dialect.driver).connect
    seconds = given.get("connect_timeout")

    async def limited(*args: Any, **kw: Any) -> Any:
        # Its own limit ends with the TCP handshake; a server may fall silent after it.
        try:
            async with asyncio.timeout(seconds):
                return await connect(*args, **kw)
        except TimeoutError as error:
            what = f"no greeting from the server within {seconds} s"
            raise dialect.dbapi.OperationalError(what) from error

    given["async_creator_fn"] = limited


def _escape_bytes(connection: Any, record: object) -> None:
    """Let aiomysql send bytes: up to 0.3.2 it does so by what PyMySQL has taken away in 1.2.3."""
    del record
    sent = connection.driver_connection
    plain = sent.escape

    def escape(value: Any) -> Any:
        return f"_binary X'{value.hex()}'" if isinstance(value, bytes) else plain(value)

    sent.escape = escape


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return what PyMySQL makes of its `ssl` argument; drivers for asyncio do not."""
    ca, path = options.get("ca"), options.get("capath")
    context = ssl.create_default_context(cafile=ca, capath=path)
    # Certificates that MySQL has made for itself do not pass it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    trusted = ca is not None or path is not None
    context.check_hostname = trusted and bool(options.get("check_hostname", True))
    context.verify_mode = ssl.CERT_REQUIRED if trusted else ssl.CERT_NONE
    if "cert" in options:
        context.load_cert_chain(options["cert"], keyfile=options.get("key"))
    if "cipher" in options:
        context.set_ciphers(options["cipher"])
    return context
