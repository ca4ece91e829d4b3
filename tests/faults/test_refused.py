"""Databases that cannot prepare, or whose transaction has failed: nobody commits alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from router import CrossShardError, Router
from router.testing.servers import PostgresServer
from tests.faults.ledger import (
    ENTRIES,
    Ledger,
    Ledgers,
    assert_whole,
    open_ledger,
    prepare,
    transact,
    writes,
)
from tests.faults.scenes import prepare_by_hand
from tests.support.databases import MakeDatabases


def fails(ledger: Ledger, work: Any, match: str, error: type[Exception] = DBAPIError) -> None:
    """Make a transaction with more `work` in it; it has to fail, and to leave nothing."""
    with ledger.router.sessionmaker()() as session:
        for statement in writes(ledger.router, ledger.begin()):
            session.execute(statement)
        work(session)
        with pytest.raises(error, match=match):
            session.commit()
        # The session can go on at once.
        session.execute(text("SELECT 1"), bind_arguments={"keyspace": "k0"})
    assert_whole(ledger.router, committed=ledger.committed)
    assert ledger.router.recover(grace=0) == []


def on(session: Session, at: int, statement: str) -> Any:
    """Execute SQL in the database `at`."""
    return session.execute(text(statement), bind_arguments={"keyspace": f"k{at}"})


CANNOT_PREPARE = {
    "temporary": ("CREATE TEMPORARY TABLE t (id int)", "temporary objects"),
    "notify": ("NOTIFY router", "LISTEN|NOTIFY"),
    "snapshot": ("SELECT pg_export_snapshot()", "exported snapshots"),
    "cursor": ("DECLARE kept CURSOR WITH HOLD FOR SELECT 1", "WITH HOLD"),
}


@pytest.mark.parametrize("what", list(CANNOT_PREPARE))
def test_what_postgresql_does_not_prepare(ledgers: Ledgers, what: str) -> None:
    """The server's own reason comes out."""
    statement, reason = CANNOT_PREPARE[what]
    fails(ledgers.of("postgresql"), lambda session: on(session, 1, statement), reason)


def test_a_constraint_at_the_end(ledgers: Ledgers) -> None:
    """Deferred to PREPARE, or to the decider's COMMIT: in both places all is rolled back."""
    ledger = ledgers.of("postgresql")
    again = "INSERT INTO once VALUES (1)"
    for at in (0, 1):
        with ledger.router.engines[f"b{at}"].begin() as connection:
            connection.execute(
                text("CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            )
            connection.execute(text(again))
        fails(ledger, partial(on, at=at, statement=again), "once_id_key")


def test_a_serialization_failure(make_databases: MakeDatabases) -> None:
    """PostgreSQL finds it out at PREPARE, at the latest; 40001 comes out."""
    with open_ledger(make_databases("postgresql", 3)) as router:
        prepare(router)
        for engine in router.engines.values():
            event.listen(engine, "begin", serializable)
        sums = text("SELECT sum(amount) FROM balances1")
        move = text("INSERT INTO balances1 SELECT :id, sum(amount) + 1 FROM balances1")
        place: Any = {"bind_arguments": {"keyspace": "k1"}}
        make = router.sessionmaker()
        with make() as first, make() as second:
            for number, session in enumerate((first, second)):
                session.execute(sums, **place)
                session.execute(move, {"id": 10 + number}, **place)
                session.execute(insert(ENTRIES[0]).values(id=10 + number))
            first.commit()
            with pytest.raises(DBAPIError) as caught:
                second.commit()
        assert getattr(caught.value.orig, "sqlstate", None) == "40001"
        assert router.in_doubt().branches == ()


def serializable(connection: Connection) -> None:
    """Make a transaction as strict as can be."""
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")


@pytest.mark.parametrize("at", [0, 1])
def test_an_error_that_was_swallowed(ledgers: Ledgers, at: int) -> None:
    """PostgreSQL would roll back one database in silence, decider or not, and commit the others."""

    def swallow(session: Session) -> None:
        with pytest.raises(DBAPIError):
            session.connection({"keyspace": f"k{at}"}).execute(text("SELECT nothing"))

    fails(ledgers.of("postgresql"), swallow, "R403", CrossShardError)


def test_an_error_that_was_swallowed_in_the_only_writer(ledgers: Ledgers) -> None:
    """Beside readers, too, a commit that would be a rollback is none."""
    ledger = ledgers.of("postgresql")
    with ledger.router.sessionmaker()() as session:
        on(session, 1, "SELECT 1")
        connection = session.connection({"keyspace": "k0"})
        connection.execute(insert(ENTRIES[0]).values(id=ledger.begin()))
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT nothing"))
        session.get_transaction().wrote.discard(ledger.router.engines["b1"])  # type: ignore[union-attr]
        with pytest.raises(CrossShardError, match="R403"):
            session.commit()
    assert_whole(ledger.router, committed=ledger.committed)


def test_a_duplicate_that_was_swallowed(ledgers: Ledgers) -> None:
    """MariaDB undoes the statement only; the transaction is whole without it."""
    ledger = ledgers.of("mariadb")
    with ledger.router.sessionmaker()() as session:
        for statement in writes(ledger.router, ledger.begin()):
            session.execute(statement)
        for at in (0, 1):
            with pytest.raises(IntegrityError):
                session.connection({"keyspace": f"k{at}"}).execute(
                    insert(ENTRIES[at]).values(id=ledger.number)
                )
        session.commit()
    ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)


@pytest.mark.parametrize("at", [0, 1])
def test_a_wait_that_was_swallowed(ledgers: Ledgers, at: int) -> None:
    """MariaDB undoes the statement that has waited too long, and no other."""
    ledger = ledgers.of("mariadb")
    other = create_engine(ledger.urls[at], poolclass=NullPool)
    taken = insert(ENTRIES[at]).values(id=ledger.begin() + 1)
    with ledger.router.sessionmaker()() as session, other.connect() as rival:
        for statement in writes(ledger.router, ledger.number):
            session.execute(statement)
        rival.execute(taken)
        connection = session.connection({"keyspace": f"k{at}"})
        connection.execute(text("SET innodb_lock_wait_timeout = 1"))
        with pytest.raises(DBAPIError, match="1205"):
            connection.execute(taken)
        connection.execute(text("SET innodb_lock_wait_timeout = DEFAULT"))
        session.commit()
    ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)


@pytest.mark.parametrize("at", [0, 1])
def test_a_deadlock_that_was_swallowed(ledgers: Ledgers, at: int) -> None:
    """MariaDB has undone one database's part, decider or not: nothing commits."""
    ledger = ledgers.of("mariadb")

    def deadlock(session: Session) -> None:
        url = ledger.urls[at]
        with pytest.raises(DBAPIError, match="1213"):
            lose_a_deadlock(url, session.connection({"keyspace": f"k{at}"}))

    fails(ledger, deadlock, "XA|1614|1402|R403", Exception)


def lose_a_deadlock(url: str, connection: Connection) -> None:
    """Wait for rows of somebody who waits for ours, and has written more."""
    other = create_engine(url, poolclass=NullPool)
    with other.begin() as rival:
        rival.execute(text("CREATE TABLE fight (id int PRIMARY KEY, n int)"))
        rival.execute(text("INSERT INTO fight SELECT seq, 0 FROM seq_1_to_200"))
    try:
        with other.connect() as rival, ThreadPoolExecutor() as threads:
            rival.execute(text("UPDATE fight SET n = 1 WHERE id > 2"))
            connection.execute(text("UPDATE fight SET n = 2 WHERE id = 1"))
            threads.submit(rival.execute, text("UPDATE fight SET n = 1 WHERE id = 1"))
            connection.execute(text("UPDATE fight SET n = 2 WHERE id = 3"))
    finally:
        with other.begin() as rival:
            rival.execute(text("DROP TABLE fight"))


class FewSlots(PostgresServer):
    """A server that keeps as many prepared transactions as its user has set."""

    slots = 0
    """What PostgreSQL has by default."""

    def _command(self, data: Path) -> list[str]:
        return [*super()._command(data), "-c", f"max_prepared_transactions={self.slots}"]


class OneSlot(FewSlots):
    """A server that keeps one."""

    slots = 1


@pytest.fixture
def without_slots() -> Iterator[str]:
    """The URL of a database on a server that prepares nothing."""
    with FewSlots() as server:
        yield server.url().render_as_string(hide_password=False)


@pytest.fixture
def one_slot() -> Iterator[str]:
    """The URL of a database on a server that keeps one prepared transaction."""
    with OneSlot() as server:
        yield server.url().render_as_string(hide_password=False)


def test_no_slots(without_slots: str, make_databases: MakeDatabases) -> None:
    """It says so, and `check` does before."""
    with open_ledger([*make_databases("postgresql", 1), without_slots]) as router:
        prepare(router)
        assert "R704" in [problem.id for problem in router.check()]
        assert_refused(router)


def test_no_slot_left(one_slot: str, make_databases: MakeDatabases) -> None:
    """Nobody commits while others have taken what there is; afterwards everybody does."""
    with open_ledger([*make_databases("postgresql", 2), one_slot]) as router:
        prepare(router)
        prepare_by_hand(one_slot, "'foreign'", "INSERT INTO entries2 VALUES (-1)")
        assert_refused(router)
        with router.engines["b2"].connect() as connection:
            settle = connection.execution_options(isolation_level="AUTOCOMMIT")
            settle.exec_driver_sql("ROLLBACK PREPARED 'foreign'")
        transact(router, 2)
        assert_whole(router, committed={2})


def assert_refused(router: Router) -> None:
    """Fail unless a commit says that there are too few slots, and leaves nothing."""
    with router.sessionmaker()() as session:
        for statement in writes(router, 1):
            session.execute(statement)
        with pytest.raises(DBAPIError, match="max_prepared_transactions"):
            session.commit()
    assert_whole(router, committed=set())
