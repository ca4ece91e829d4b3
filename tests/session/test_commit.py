"""Commits over several databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from router import CrossShardError, Router
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act
from router.transaction.recovery import InDoubt
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Customer, open_router


@pytest.fixture
def mixed(make_databases: MakeDatabases) -> Iterator[Router]:
    """Accounts on MariaDB, the shop on two PostgreSQL databases."""
    urls = [*make_databases("mariadb", 1), *make_databases("postgresql", 2)]
    with open_router(urls) as router:
        yield router


@contextmanager
def recording() -> Iterator[list[tuple[str, str]]]:
    """Yield a list that notes everything that is done to participants."""
    seen: list[tuple[str, str]] = []

    def note(moment: Moment, act: Act) -> None:
        if moment is Moment.AFTER:
            seen.append((act.deed.value, act.database))

    with probing(note):
        yield seen


def count(router: Router) -> dict[str, int]:
    """Return how many accounts and customers there are, by database."""
    tables = {"main": "accounts", "d0": "customers", "d1": "customers"}
    found = {}
    for name, table in tables.items():
        with router.engines[name].connect() as connection:
            found[name] = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    return found


def in_doubt(router: Router) -> list[InDoubt]:
    """Return what is prepared and not finished."""
    return list(router.in_doubt().branches)


def log_of(router: Router) -> list[tuple[str, str]]:
    """Return the database and the verdict of every row in the decision logs."""
    found = []
    for name, engine in router.engines.items():
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT verdict FROM router_commit_log"))
            found += [(name, str(verdict)) for (verdict,) in rows if verdict != "I"]
    return found


def test_several_writers_are_prepared_first(mixed: Router) -> None:
    """The decider records, the others prepare, it commits, they commit."""
    with recording() as seen, mixed.sessionmaker().begin() as session:
        session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c"), Account(name="a")])
    assert seen[0] == ("record the decision", "main")
    assert set(seen[1:3]) == {("prepare", "d0"), ("prepare", "d1")}
    assert seen[3] == ("commit the decider", "main")
    assert set(seen[4:]) == {("commit", "d0"), ("commit", "d1")}
    assert count(mixed) == {"main": 1, "d0": 1, "d1": 1}
    assert in_doubt(mixed) == []


@pytest.mark.parametrize("writer", [Customer(id=0, name="c"), Account(name="a")], ids=["pg", "my"])
def test_one_writer_commits_plainly(mixed: Router, writer: object) -> None:
    """Readers beside it are not prepared either, on neither kind of server."""
    with recording() as seen, mixed.sessionmaker().begin() as session:
        session.scalars(select(Customer)).all()
        session.scalars(select(Account)).all()
        session.merge(writer)
    assert seen == []
    assert log_of(mixed) == []
    assert sum(count(mixed).values()) == 1


def test_reading_only(mixed: Router) -> None:
    """A transaction that only read ends on every server without an error."""
    with mixed.sessionmaker()() as session:
        for _ in range(2):
            assert session.scalars(select(Account)).all() == []
            assert session.scalars(select(Customer)).all() == []
            session.commit()


def test_a_prepare_that_fails_rolls_back_everything(mixed: Router) -> None:
    """A deferred constraint is only found at PREPARE."""
    with mixed.engines["d1"].begin() as connection:
        connection.execute(text("CREATE TABLE seen (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        connection.execute(text("INSERT INTO seen VALUES (1)"))
    with mixed.sessionmaker()() as session:
        session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c"), Account(name="a")])
        session.execute(text("INSERT INTO seen VALUES (1)"), bind_arguments={"shard": "shop/s1"})
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        assert session.scalars(select(Account)).all() == []
    assert count(mixed) == {"main": 0, "d0": 0, "d1": 0}
    assert in_doubt(mixed) == []


def test_prepare_savepoints_and_rollback(mixed: Router) -> None:
    """The rest of the transaction's API works over both kinds of server."""
    with mixed.sessionmaker()() as session:
        session.add_all([Customer(id=0, name="c"), Account(name="a")])
        session.prepare()
        session.commit()
        with session.begin_nested():
            session.add_all([Customer(id=1, name="c"), Account(name="b")])
        savepoint = session.begin_nested()
        session.add_all([Customer(id=2, name="c"), Account(name="c")])
        session.flush()
        savepoint.rollback()
        session.commit()
        session.add_all([Customer(id=4, name="c"), Account(name="d")])
        session.flush()
        session.rollback()
        session.add(Account(name="e"))
        session.flush()
        session.close()
    assert count(mixed) == {"main": 2, "d0": 1, "d1": 1}
    assert in_doubt(mixed) == []


def test_two_writers_of_sqlite_are_refused_beforehand(make_databases: MakeDatabases) -> None:
    """SQLite cannot be prepared, so the second writer is refused before it writes."""
    with open_router(make_databases("sqlite", 3), transactions={"two_phase": True}) as router:
        with router.sessionmaker()() as session:
            session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c")])
            with pytest.raises(CrossShardError, match="R401"):
                session.commit()
            session.rollback()
            session.add(Customer(id=1, name="c"))
            session.commit()
        assert count(router) == {"main": 0, "d0": 0, "d1": 1}


def test_one_after_another(make_databases: MakeDatabases) -> None:
    """With `two_phase: false` nothing is prepared."""
    urls = make_databases("postgresql", 3)
    with open_router(urls, transactions={"two_phase": False}) as router:
        with recording() as seen, router.sessionmaker().begin() as session:
            session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c")])
        assert seen == []
        assert count(router) == {"main": 0, "d0": 1, "d1": 1}


def test_a_swallowed_error_is_named_from_the_first_commit_on(mixed: Router) -> None:
    """Also where nothing is known of the databases yet, and cannot be asked for any more."""
    with mixed.sessionmaker()() as session:
        session.execute(insert(Customer).values(id=0, name="c"))
        session.execute(insert(Customer).values(id=1, name="c"))
        with pytest.raises(DBAPIError):
            session.execute(insert(Customer).values(id=1, name="c"))
        with pytest.raises(CrossShardError) as caught:
            session.commit()
    assert caught.value.id == "R403"
    assert count(mixed) == {"main": 0, "d0": 0, "d1": 0}
