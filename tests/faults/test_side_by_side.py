"""Steps of a commit over several databases: all are sent before any answer is waited for."""

from __future__ import annotations

import _thread
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import URL, Connection, create_engine, event, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from router.hooks.sending import sending, sends_ahead, side_by_side
from tests.faults.ledger import (
    ENTRIES,
    Ledgers,
    assert_whole,
    open_ledger,
    prepare,
    recovers,
    transact,
)
from tests.faults.scenes import is_whole
from tests.support.databases import MakeDatabases, query

LOCK = "SELECT pg_advisory_lock(20070612)"
WAITS_FOR_LOCK = (
    "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND "
    "objid = 20070612) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$"
)
SLOW = """
CREATE TABLE slow (id int);
CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION sleep();
"""
SLEEPERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep' "
    "AND datname = current_database()"
)


@pytest.fixture
def three(make_databases: MakeDatabases) -> Iterator[list[Connection]]:
    """Connections to three databases, in transactions."""
    with ExitStack() as stack:
        made = []
        for url in make_databases("postgresql", 3):
            engine = create_engine(url, poolclass=NullPool)
            connection = stack.enter_context(engine.connect())
            connection.execute(text("SET statement_timeout = '30s'"))
            made.append(connection)
        yield made


def test_all_are_sent_before_any_is_awaited(three: list[Connection]) -> None:
    """The first one ends only because the last one is under way."""
    assert all(sends_ahead(one) for one in three)
    # The databases are those of two servers in turn.
    statements = [WAITS_FOR_LOCK, "SELECT 1", LOCK]
    side_by_side([sending(one, sent) for one, sent in zip(three, statements, strict=True)])
    assert [one.scalar(text("SELECT 7")) for one in three] == [7, 7, 7]


def test_an_error_closes_what_was_sent(three: list[Connection]) -> None:
    """It is the one that SQLAlchemy raises; whose answer nobody has seen is not used again."""
    statements = ["SELECT 1", "SELECT 1 / 0", "SELECT 1"]
    with pytest.raises(DBAPIError, match="division by zero"):
        side_by_side([sending(one, sent) for one, sent in zip(three, statements, strict=True)])
    assert [one.invalidated for one in three] == [False, False, True]


def test_more_than_fits_into_a_buffer(three: list[Connection]) -> None:
    """What cannot be sent at once is sent while its answer is waited for."""
    long = f"DO $$ BEGIN PERFORM length('{'x' * 20_000_000}'); END $$"
    side_by_side([sending(one, long) for one in three])
    assert [one.scalar(text("SELECT 7")) for one in three] == [7, 7, 7]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_interrupted_while_it_waits(ledgers: Ledgers, at: int) -> None:
    """Control-C ends a commit that waits for any of its databases, and nothing is committed."""
    ledger = ledgers.of("postgresql")
    router, number = ledger.router, ledger.begin()
    url = router.engines[f"b{at}"].url
    query(url, SLOW)
    with ThreadPoolExecutor(1) as pool, router.sessionmaker()() as session:
        for table in ENTRIES[:3]:
            session.execute(insert(table).values(id=number))
        slow: Any = {"bind_arguments": {"keyspace": f"k{at}"}}
        session.execute(text("INSERT INTO slow VALUES (1)"), **slow)
        pool.submit(interrupt_when_it_sleeps, url)
        with pytest.raises(KeyboardInterrupt):
            session.commit()
    assert query(url, SLEEPERS) == [(0,)]
    assert recovers(router)
    assert_whole(router, committed=ledger.committed)


def interrupt_when_it_sleeps(url: URL) -> None:
    """Press Control-C as soon as a database sleeps."""
    deadline = time.monotonic() + 30
    while query(url, SLEEPERS) == [(0,)] and time.monotonic() < deadline:
        time.sleep(0.02)
    _thread.interrupt_main()


@pytest.mark.parametrize(
    ("given", "used"), [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply",) * 2]
)
def test_a_decision_is_durable(make_databases: MakeDatabases, given: str, used: str) -> None:
    """It must not be lost by a crash of its server; what is durable enough stays as it is."""
    used_by: list[object] = []
    with open_ledger(make_databases("postgresql", 2)) as router:
        prepare(router)
        query(router.engines["b0"].url, alter(router.engines["b0"].url.database, given))
        router.dispose()

        @event.listens_for(router.engines["b0"], "commit")
        def look(connection: Connection) -> None:
            used_by.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar())

        transact(router, 1)
        assert used_by == [used]
        assert is_whole(router)


def alter(database: str | None, commits: str) -> str:
    """Return the statement that sets for a database how durable its commits are."""
    return f"ALTER DATABASE {database} SET synchronous_commit = {commits}"
