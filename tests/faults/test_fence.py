"""The question that leaves a verdict behind, whatever isolation an engine is configured with."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy import exc as sa_exc

from router.hooks.sending import at_once
from router.transaction import fence as fences
from router.transaction import log
from router.transaction.fence import fence
from router.transaction.names import new_gtid
from router.transaction.protocol import Verdict
from tests.support.databases import MakeDatabases
from tests.support.processes import eventually

LEVELS = [
    ("postgresql", "READ COMMITTED"),
    ("postgresql", "REPEATABLE READ"),
    ("postgresql", "SERIALIZABLE"),
    ("mariadb", "READ UNCOMMITTED"),
    ("mariadb", "READ COMMITTED"),
    ("mariadb", "REPEATABLE READ"),
    ("mariadb", "SERIALIZABLE"),
    ("sqlite", "SERIALIZABLE"),
]
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    # What is more, only those with a privilege are told.
    "mysql": "SELECT count(*) FROM information_schema.processlist "
    f"WHERE db = database() AND info LIKE 'INSERT INTO {log.NAME}%'",
}
"""How many sessions ask, and wait, in a database."""


@pytest.fixture(scope="module", params=LEVELS, ids=" ".join)
def engine(
    request: pytest.FixtureRequest, make_module_databases: MakeDatabases
) -> Iterator[Engine]:
    """An engine with an isolation level, of a database that can decide."""
    kind, level = request.param
    (url,) = make_module_databases(kind, 1)
    made = create_engine(url, isolation_level=level)
    log.create(made)
    yield made
    made.dispose()


def limit(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Let a question wait for so long."""
    mysql = f"SET SESSION innodb_lock_wait_timeout = {seconds}"
    limits = {
        "postgresql": f"SET LOCAL lock_timeout = '{max(1, 1000 * seconds)}ms'",
        "mysql": mysql,
        "mariadb": mysql,
        "sqlite": f"PRAGMA busy_timeout = {1000 * seconds}",
    }
    monkeypatch.setattr(fences, "_LIMITS", limits)


@contextmanager
def in_flight(engine: Engine, gtid: str) -> Iterator[Connection]:
    """Hold a decider's transaction open that has recorded its decision."""
    with engine.connect() as connection:
        at_once(log.recording(connection, gtid, []))
        yield connection


def verdicts(engine: Engine, gtid: str) -> list[str]:
    """Return what the log says of a transaction."""
    with engine.connect() as connection:
        query = text(f"SELECT verdict FROM {log.NAME} WHERE gtid = :gtid")
        return [str(found) for found in connection.scalars(query, {"gtid": gtid})]


def waits(engine: Engine) -> bool:
    """Return whether a session waits for a lock, where a server tells."""
    query = WAITING.get(engine.dialect.name)
    if query is None:
        return True
    with engine.connect() as connection:
        return bool(connection.scalar(text(query)))


def test_no_verdict_while_in_flight(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undecided when the time is over; a verdict as soon as there is one."""
    limit(monkeypatch, 1)
    gtid = new_gtid()
    with in_flight(engine, gtid) as decider:
        assert fence(engine, gtid) is None
        decider.commit()
    assert [fence(engine, gtid) for _ in range(2)] == [Verdict.COMMIT] * 2
    assert verdicts(engine, gtid) == ["C"]


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
def test_who_waits_learns_how_it_ends(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    """The question ends with the decider's transaction, and the next one is answered alike."""
    limit(monkeypatch, 60)
    gtid = new_gtid()
    with in_flight(engine, gtid) as decider, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(fence, engine, gtid)
        assert eventually(lambda: waits(engine))
        assert not asked.done()
        (decider.commit if commits else decider.rollback)()
        verdict = Verdict.COMMIT if commits else Verdict.ABORT
        assert asked.result() is verdict
    assert fence(engine, gtid) is verdict
    assert verdicts(engine, gtid) == [verdict.value]


def test_who_asks_first_wins(engine: Engine) -> None:
    """A decider that is late cannot record its decision, and the verdict stays."""
    gtid = new_gtid()
    assert fence(engine, gtid) is Verdict.ABORT
    with engine.connect() as decider, pytest.raises(sa_exc.DBAPIError):
        at_once(log.recording(decider, gtid, []))
    assert fence(engine, gtid) is Verdict.ABORT
    assert verdicts(engine, gtid) == ["A"]


def test_a_decider_with_an_old_snapshot(engine: Engine) -> None:
    """One that cannot see the verdict is stopped by it all the same."""
    gtid = new_gtid()
    with engine.connect() as decider:
        # Where this has to lock what it reads, nobody could ask.
        if engine.dialect.name != "sqlite":
            decider.exec_driver_sql(f"SELECT count(*) FROM {log.NAME} WHERE gtid = 'none'")
        assert fence(engine, gtid) is Verdict.ABORT
        with pytest.raises(sa_exc.DBAPIError):
            at_once(log.recording(decider, gtid, []))
    assert fence(engine, gtid) is Verdict.ABORT


def test_many_ask_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """All get the same answer."""
    limit(monkeypatch, 60)
    gtid = new_gtid()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: fence(engine, gtid), range(8)))
    assert answers == [Verdict.ABORT] * 8
    assert verdicts(engine, gtid) == ["A"]


SETTINGS = {
    "postgresql": ("SHOW lock_timeout", "SET lock_timeout = '7s'"),
    "mysql": (
        "SELECT @@SESSION.innodb_lock_wait_timeout",
        "SET SESSION innodb_lock_wait_timeout = 7",
    ),
    "sqlite": ("PRAGMA busy_timeout", "PRAGMA busy_timeout = 7000"),
}
"""Dialect: how to read what a connection waits for locks, and how an application changes it."""


def configure(change: str, connection: Any, record: object) -> None:
    """Change a setting of a driver's connection."""
    connection.cursor().execute(change)
    connection.commit()


def test_a_connection_is_given_back_as_it_was(engine: Engine) -> None:
    """Limits of the question do not stay on a connection of the application's pool."""
    show, change = SETTINGS[engine.dialect.name]
    pooled = create_engine(engine.url, pool_size=1, max_overflow=0)
    event.listen(pooled, "connect", partial(configure, change))
    try:
        with pooled.connect() as connection:
            before = connection.exec_driver_sql(show).scalar_one()
            level = connection.get_isolation_level()
        gtid = new_gtid()
        assert [fence(pooled, gtid) for _ in range(2)] == [Verdict.ABORT] * 2
        with pooled.connect() as connection:
            assert connection.exec_driver_sql(show).scalar_one() == before
            assert connection.get_isolation_level() == level
    finally:
        pooled.dispose()
