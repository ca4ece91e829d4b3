"""Asyncio engines: the drivers they use, and servers that do not answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, event, literal, make_url, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.util import greenlet_spawn

from router import Router, RoutingError, ShardMapError, ShardUnavailableError
from tests.conftest import MakeDatabases
from tests.session.shop import Base, Customer, open_router, shard_map
from tests.session.test_asyncio import run

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "s3cret"


def single(url: str, **engine: Any) -> Router:
    """Return a router over one database."""
    data = {
        "version": 1,
        "databases": {"main": {"url": url, "engine": engine}},
        "keyspaces": {"all": {"database": "main"}},
    }
    return Router.from_dict(data)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite://", "sqlite+aiosqlite"),
        ("sqlite+pysqlite:///x.db", "sqlite+aiosqlite"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg2://u@h/d", "postgresql+psycopg"),
        ("mysql+pymysql://u@h/d", "mysql+aiomysql"),
        ("mariadb+pymysql://u@h/d", "mariadb+aiomysql"),
    ],
)
def test_drivers(url: str, driver: str) -> None:
    """Each dialect has one that asyncio can wait for; all else of the URL stays."""
    engine = single(url).async_engines["main"]
    assert engine.url == make_url(url).set(drivername=driver)
    assert engine.sync_engine.dialect.is_async


def test_a_driver_that_is_not_installed() -> None:
    """All databases without one are named, with what to install."""
    source = """if True:
        import sys
        sys.modules.update(aiosqlite=None, aiomysql=None, asyncmy=None)
        from router import Router
        urls = {"one": "sqlite://", "two": "mysql+pymysql://h/d", "three": "postgresql+psycopg://h"}
        router = Router.from_dict({
            "version": 1,
            "databases": {name: {"url": url} for name, url in urls.items()},
            "keyspaces": {"all": {"database": "one"}},
        })
        try:
            router.async_sessionmaker()
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.startswith("ShardMapError the shard map has 2 problems")
    assert "R126" in done.stdout
    assert "database one on sqlite: aiosqlite" in done.stdout
    assert "database two on mysql: aiomysql or asyncmy" in done.stdout
    assert "sqlalchemy-router[asyncio]" in done.stdout


def test_asyncio_is_loaded_when_it_is_used() -> None:
    """`import router` and synchronous sessions do without SQLAlchemy's asyncio extension."""
    source = (
        "import sys, router; print('sqlalchemy.ext.asyncio' in sys.modules);"
        "router.AsyncRoutingSession; print('sqlalchemy.ext.asyncio' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.split() == ["False", "True"]


def test_engines_are_made_once_and_as_the_map_says(make_databases: MakeDatabases) -> None:
    """A mapping like that of the synchronous engines, with pools of its own."""
    data = shard_map(make_databases("sqlite", 3), transactions={"two_phase": False})
    data["databases"]["d0"]["engine"] = {"pool_size": 3, "pool_recycle": 77}
    router = Router.from_dict(data, metadata=Base.metadata)
    assert list(router.async_engines) == ["main", "d0", "d1"]
    assert len(router.async_engines) == 3
    assert "d7" not in router.async_engines
    engine = router.async_engines["d0"]
    assert engine is router.async_engines["d0"]
    assert engine.sync_engine is not router.engines["d0"]
    pool: Any = engine.sync_engine.pool
    assert (pool.size(), pool._recycle) == (3, 77)
    with pytest.raises(RoutingError, match=r"R206.*main, d0, d1"):
        router.async_engines["d7"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_bytes(make_databases: MakeDatabases, kind: str) -> None:
    """They arrive as they were, also those that mean something in SQL."""
    given = b"\x00\xff'\\\"%s\n"

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            found = select(literal(given, LargeBinary), literal(5), literal("'%s"))
            place = {"database": "main"}
            assert tuple((await session.execute(found, bind_arguments=place)).one()) == (
                given,
                5,
                "'%s",
            )

    run(single(*make_databases(kind, 1)), main)


def test_a_database_in_memory() -> None:
    """It is there for asyncio only, and for all sessions of the router."""
    router = single("sqlite://")

    async def main(router: Router) -> None:
        async with router.async_engines["main"].begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE kept (id INTEGER)")
        for _ in range(2):
            async with router.async_sessionmaker()() as session:
                connection = await session.connection()
                await connection.exec_driver_sql("SELECT * FROM kept")

    run(router, main)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_connection_of_sqlite_that_is_ended_twice(*, interrupted: bool) -> None:
    """Once by a pool that a task was cancelled in, and again by its garbage: neither waits."""
    router = single("sqlite://")

    async def end(connection: Any) -> None:
        dialect = router.async_engines["main"].dialect
        await greenlet_spawn(dialect.do_terminate, connection)

    async def main(router: Router) -> None:
        async with router.async_engines["main"].connect() as connection:
            await connection.invalidate()
            pooled: Any = await connection.get_raw_connection()
            raw = pooled.dbapi_connection
            await connection.invalidate()
            await end(raw)
        async with router.async_engines["main"].connect() as connection:
            pooled = await connection.get_raw_connection()
            raw = pooled.dbapi_connection
            task = asyncio.ensure_future(end(raw))
            if interrupted:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() == interrupted
            await end(raw)
            await connection.invalidate()
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(router, main)


# -- servers that do not answer -----------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("kind", ["silent", "closed"])
@pytest.mark.timeout(60)
def test_a_server_that_does_not_answer(
    kind: str, silent: int, dialect: str, make_databases: MakeDatabases
) -> None:
    """The shard fails in time, named without its password; the others go on."""
    urls = make_databases(dialect, 2)
    open_router(urls).dispose()
    port = silent if kind == "silent" else 9
    scheme = urls[0].partition("://")[0]
    urls.append(f"{scheme}://app:{PASSWORD}@127.0.0.1:{port}/nowhere?connect_timeout=2")

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            with pytest.raises(ShardUnavailableError, match="R501 database d1 at") as caught:
                await session.scalars(select(Customer))
            assert isinstance(caught.value, OperationalError)
            assert PASSWORD not in f"{caught.value!r} {caught.value.orig!r}"
            await session.rollback()
            session.add(Customer(id=4, name="good"))
            await session.flush()
            assert (await session.get_one(Customer, 4)).name == "good"

    run(Router.from_dict(shard_map(urls), metadata=Base.metadata), main)


def given_to_driver(router: Router) -> dict[str, Any]:
    """Return what the driver is called with, without calling it."""
    given: dict[str, Any] = {}
    engine = router.async_engines["main"]

    @event.listens_for(engine.sync_engine, "do_connect")
    def look(dialect: Any, record: Any, args: Any, kw: dict[str, Any]) -> None:
        given.update(kw)
        raise ConnectionError

    async def connect() -> None:
        with pytest.raises(ConnectionError):
            await engine.connect()

    asyncio.run(connect())
    return given


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
def test_every_connection_has_a_time_limit(scheme: str) -> None:
    """Unless the map says otherwise; what it says goes."""
    for query, options, seconds in (
        ("", {}, 10),
        ("?connect_timeout=2", {}, 2),
        ("", {"connect_args": {"connect_timeout": 3}}, 3),
    ):
        given = given_to_driver(single(f"{scheme}://app@h/x{query}", **options))
        assert int(given["connect_timeout"]) == seconds


def test_tls_for_mysql() -> None:
    """The options of PyMySQL become what asyncio's drivers take; a CA means that it is checked."""
    ca = ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().openssl_cafile
    checked = given_to_driver(single(f"mysql+pymysql://h/x?ssl_ca={ca}"))["ssl"]
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    named = single(f"mysql+pymysql://h/x?ssl_ca={ca}&ssl_check_hostname=false")
    assert given_to_driver(named)["ssl"].check_hostname is False
    free = single("mysql+pymysql://h/x", connect_args={"ssl": {"cipher": "ECDHE+AESGCM"}})
    assert given_to_driver(free)["ssl"].verify_mode == ssl.CERT_NONE
    with pytest.raises((ShardMapError, OSError)):
        given_to_driver(single("mysql+pymysql://h/x?ssl_ca=/nowhere.pem"))
