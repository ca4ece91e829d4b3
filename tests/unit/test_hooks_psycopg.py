"""What waiting for several connections leans on inside psycopg is where it was."""

from __future__ import annotations

import inspect
import select
import selectors
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import psycopg
import pytest
from psycopg import generators, waiting
from psycopg.pq import TransactionStatus
from sqlalchemy import make_url

from router.hooks.psycopg_waits import drive
from tests.support.databases import MakeDatabases

Connection = psycopg.Connection[Any]

SLEEP = "SELECT pg_sleep(60)"
_USERS = ("generators", "_cursor_base", "_pipeline_base", "_server_cursor_base")
_GENERATORS = ("execute", "send", "fetch_many", "fetch", "pipeline_communicate")


@pytest.fixture(params=["c", "python"])
def connection(
    request: pytest.FixtureRequest, make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    """A connection, by the generators that psycopg has in C and by those in Python."""
    if request.param == "python":
        monkeypatch.setattr(waiting, "wait", waiting.wait_poll)
        for module in (import_module(f"psycopg.{name}") for name in _USERS):
            for name in _GENERATORS:
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, getattr(generators, f"_{name}"))
    url = make_url(make_databases("postgresql", 1)[0]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as made:
        yield made


class Waits:
    """Waits for sockets, and remembers which."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __call__(self, fileno: int, state: int) -> int:
        self.seen.add(fileno)
        with selectors.DefaultSelector() as selector:
            selector.register(fileno, state)
            return selector.select()[0][1]


def raising(error: BaseException) -> Callable[[int, int], int]:
    """Return a wait that never ends but raises `error`, once the statement is under way."""

    def wait(fileno: int, state: int) -> int:
        # BEGIN is answered at once; what comes after it is not.
        poll = select.poll()
        poll.register(fileno, select.POLLIN)
        if poll.poll(500):
            return selectors.EVENT_READ
        raise error

    return wait


def _many(connection: Connection) -> None:
    connection.cursor().executemany("SELECT %s", [(1,), (2,)], returning=True)


def _copy(connection: Connection) -> None:
    with connection.cursor().copy("COPY (SELECT 1) TO STDOUT") as copy:
        assert list(copy.rows()) == [("1",)]


def _server_side(connection: Connection) -> None:
    with connection.cursor("c") as cursor:
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def _end(name: str) -> Callable[[Connection], None]:
    def call(connection: Connection) -> None:
        connection.execute("SELECT 1")
        getattr(connection, name)()

    return call


def _two_phase(connection: Connection) -> None:
    connection.tpc_begin("x")
    connection.execute("CREATE TABLE x ()")
    connection.tpc_prepare()
    connection.tpc_rollback()


CALLS = {
    "execute": lambda connection: connection.execute("SELECT %s", (1,)),
    "executemany": _many,
    "copy": _copy,
    "server_side": _server_side,
    "commit": _end("commit"),
    "rollback": _end("rollback"),
    "two_phase": _two_phase,
}


def test_states_are_those_of_selectors() -> None:
    """What psycopg waits for and is told are the masks of `selectors`."""
    for kind in (waiting.Wait, waiting.Ready):
        assert kind.R == selectors.EVENT_READ
        assert kind.W == selectors.EVENT_WRITE
        assert kind.RW == selectors.EVENT_READ | selectors.EVENT_WRITE


def test_how_connections_wait() -> None:
    """By one method, which is given the generator first."""
    assert list(inspect.signature(psycopg.Connection.wait).parameters)[:3] == [
        "self",
        "gen",
        "interval",
    ]


@pytest.mark.parametrize("name", CALLS)
def test_every_call_waits_by_what_it_is_given(connection: Connection, name: str) -> None:
    """While it is driven, and not afterwards."""
    waits = Waits()
    drive(connection, lambda: CALLS[name](connection), waits)
    assert waits.seen == {connection.fileno()}
    assert "wait" not in vars(connection)
    waits.seen.clear()
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert waits.seen == set()


def test_values_and_errors(connection: Connection) -> None:
    """What is larger than any buffer passes both ways, and errors are psycopg's."""
    text, waits = "x" * 10_000_000, Waits()
    found = drive(connection, lambda: connection.execute("SELECT %s::text", (text,)), waits)
    assert found.fetchone() == (text,)
    with pytest.raises(psycopg.errors.DivisionByZero):
        drive(connection, lambda: connection.execute("SELECT 1 / 0"), waits)
    assert connection.info.transaction_status == TransactionStatus.INERROR


def test_interrupted(connection: Connection) -> None:
    """The driver cancels the statement itself, and the connection can be used again."""
    with pytest.raises(KeyboardInterrupt):
        drive(connection, lambda: connection.execute(SLEEP), raising(KeyboardInterrupt()))
    assert connection.info.transaction_status == TransactionStatus.INERROR
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_given_up(connection: Connection) -> None:
    """Whatever else is raised while waiting closes the generator and leaves no lock."""
    closed = []

    def generator() -> Any:
        try:
            yield waiting.Wait.R
        finally:
            closed.append(True)

    class GivenUpError(BaseException):
        """Not known to psycopg."""

    with pytest.raises(GivenUpError):
        drive(connection, lambda: connection.wait(generator()), raising(GivenUpError()))
    assert closed == [True]
    with pytest.raises(GivenUpError):
        drive(connection, lambda: connection.execute(SLEEP), raising(GivenUpError()))
    assert connection.lock.acquire(blocking=False)
    connection.lock.release()
    connection.close()


def test_calls_with_a_limit_of_their_own(connection: Connection) -> None:
    """They wait as they always do."""

    def generator() -> Any:
        yield waiting.Wait.W
        return 7

    waits = Waits()
    assert drive(connection, lambda: connection.wait(generator(), 0.1), waits) == 7
    assert waits.seen == set()
