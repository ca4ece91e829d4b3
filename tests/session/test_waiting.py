"""Several servers that are waited for in one thread, as far as only servers can show it."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from router import ShardUnavailableError
from router.execute.parallel import run_all
from router.hooks import cancelling, driver
from router.lanes.pace import Fixed
from router.lanes.workers import Workers
from router.route.target import Destination
from router.testing.servers import PostgresServer
from tests.support.databases import MakeDatabases

PATIENCE = 60
"""Seconds after which a test gives up; nothing waits so long unless it is broken."""

SLEEP = {"postgresql": "SELECT pg_sleep(60)", "mysql": "SELECT SLEEP(60)"}
_SLEEPERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event = 'PgSleep'",
    "mysql": "SELECT id FROM information_schema.processlist "
    "WHERE db = database() AND state = 'User sleep'",
}
_WAKE = {"postgresql": "SELECT pg_cancel_backend({})", "mysql": "KILL QUERY {}"}


@dataclass
class Servers:
    """Connections to several databases, which may be used in lanes."""

    engines: list[Engine]
    workers: Workers = field(default_factory=Workers)
    connections: list[Connection] = field(default_factory=list)

    def sleep(self) -> list[Any]:
        """Let every database sleep, each in a lane; return how each was woken."""
        places = [Destination(f"d{at}", f"s{at}") for at in range(len(self.connections))]
        return run_all([partial(_sleep, one) for one in self.connections], places)

    def sleepers(self, at: int) -> list[int]:
        """Return who sleeps in a database."""
        with self.beside(at) as connection:
            return list(connection.scalars(text(_SLEEPERS[connection.dialect.name])))

    def all_sleep(self) -> bool:
        """Return whether every database is seen asleep, one after the other."""
        return all(self.sleepers(at) for at in range(len(self.engines)))

    def wake(self, at: int, how: str = "") -> None:
        """End what a database is doing, by itself or with its connection."""
        for sleeper in self.sleepers(at):
            with self.beside(at) as connection:
                how = how or _WAKE[connection.dialect.name]
                connection.exec_driver_sql(how.format(sleeper))

    @contextmanager
    def beside(self, at: int) -> Iterator[Connection]:
        """Yield another connection to a database."""
        engine = create_engine(
            self.engines[at].url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            yield connection

    def assert_usable(self) -> None:
        """Check that every connection can be used again, and that nothing sleeps."""
        for at, connection in enumerate(self.connections):
            connection.rollback()
            assert connection.scalar(text("SELECT 1")) == 1
            until(lambda at=at: not self.sleepers(at))  # type: ignore[misc]


def _sleep(connection: Connection) -> str:
    try:
        connection.exec_driver_sql(SLEEP[connection.dialect.name])
    except DBAPIError as error:
        if "cancel" not in str(error) and "interrupted" not in str(error):
            raise
    return "woken"


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    done = threading.Event()
    for _ in range(PATIENCE * 20):
        if condition():
            return
        done.wait(0.05)
    raise AssertionError("it never came to that")


@contextmanager
def connected(urls: list[str]) -> Iterator[Servers]:
    """Connect to every database."""
    servers = Servers([create_engine(url) for url in urls])
    with ExitStack() as stack:
        for engine in servers.engines:
            driver.install(engine, servers.workers, Fixed(True))
            stack.callback(engine.dispose)
            servers.connections.append(stack.enter_context(engine.connect()))
        yield servers


@pytest.fixture
def four(make_databases: MakeDatabases) -> Iterator[Servers]:
    """Four PostgreSQL databases."""
    with connected(make_databases("postgresql", 4)) as servers:
        yield servers


@pytest.fixture
def mixed(make_databases: MakeDatabases) -> Iterator[Servers]:
    """Two PostgreSQL databases and two of MariaDB."""
    with connected(make_databases("postgresql", 2) + make_databases("mariadb", 2)) as servers:
        yield servers


@contextmanager
def meanwhile(servers: Servers, act: Callable[[], Any]) -> Iterator[None]:
    """Do something in another thread as soon as every database sleeps."""

    def wait() -> None:
        until(servers.all_sleep)
        act()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(wait)
        yield
        done.result(PATIENCE)


# -- what overlaps ------------------------------------------------------------------------------


def test_four_servers_in_one_thread(four: Servers) -> None:
    """All are asked before any has answered, and there is no thread to wait for them."""
    threads = []

    def wake() -> None:
        threads.append(four.workers.count)
        for at in range(4):
            four.wake(at)

    with meanwhile(four, wake):
        assert four.sleep() == ["woken"] * 4
    assert threads == [0]
    four.assert_usable()


def test_two_kinds_of_servers(mixed: Servers) -> None:
    """Those whose driver needs a thread have one, and are waited for with the others."""
    threads = []

    def wake() -> None:
        threads.append(mixed.workers.count)
        for at in (2, 0, 3, 1):
            mixed.wake(at)

    with meanwhile(mixed, wake):
        assert mixed.sleep() == ["woken"] * 4
    assert threads == [2]
    mixed.assert_usable()


# -- failures -----------------------------------------------------------------------------------


def test_a_time_limit(mixed: Servers) -> None:
    """Every server is told to stop, and can be asked again."""
    calls = [
        partial(connection.exec_driver_sql, SLEEP[connection.dialect.name])
        for connection in mixed.connections
    ]
    with pytest.raises(ShardUnavailableError) as caught:
        run_all(calls, seconds=0.5)
    assert caught.value.id == "R502"
    mixed.assert_usable()


@pytest.mark.parametrize("failing", [0, 2], ids=["postgresql", "mariadb"])
def test_a_session_that_is_terminated(mixed: Servers, failing: int) -> None:
    """Its error names the shard; the others are cancelled, whichever way they are waited for."""
    kill = "KILL {}" if failing == 2 else "SELECT pg_terminate_backend({})"
    act = partial(mixed.wake, failing, kill)
    with meanwhile(mixed, act), pytest.raises(OperationalError, match=f"on shard s{failing}"):
        mixed.sleep()
    mixed.assert_usable()


def test_interrupted(mixed: Servers) -> None:
    """Control-C ends the wait; no statement goes on and no connection is lost."""
    with meanwhile(mixed, _thread.interrupt_main), pytest.raises(KeyboardInterrupt):
        mixed.sleep()
    mixed.assert_usable()


def test_a_connection_that_is_cut(four: Servers) -> None:
    """Without a word from the server."""
    raw = four.connections[2].connection.dbapi_connection
    cut = partial(cancelling.sever, raw)
    with meanwhile(four, cut), pytest.raises(OperationalError, match="on shard s2"):
        four.sleep()
    four.connections[2].rollback()
    four.wake(2)
    four.assert_usable()


def test_a_server_that_is_killed(four: Servers) -> None:
    """While it is waited for beside another one, whose statement is cancelled."""
    with ExitStack() as stack:
        doomed = stack.enter_context(PostgresServer())
        url = doomed.url().render_as_string(hide_password=False)
        safe = four.engines[0].url.render_as_string(hide_password=False)
        with connected([url, safe]) as servers:
            with meanwhile(servers, stack.close), pytest.raises(OperationalError, match="s0"):
                servers.sleep()
            servers.connections[0].invalidate()
            servers.connections[1].rollback()
            assert servers.connections[1].scalar(text("SELECT 1")) == 1
            until(lambda: not servers.sleepers(1))
