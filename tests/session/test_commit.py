"""Commits over several databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError

from router import CrossShardError, Router
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Customer, open_router


@pytest.fixture
def mixed(make_databases: MakeDatabases) -> Iterator[Router]:
    """Accounts on MariaDB, the shop on two PostgreSQL databases."""
    urls = [*make_databases("mariadb", 1), *make_databases("postgresql", 2)]
    with open_router(urls) as router:
        yield router


def record(router: Router) -> list[tuple[str, str]]:
    """Return a list that notes every prepare and commit from now on."""
    seen: list[tuple[str, str]] = []
    for name in router.engines:
        engine = router.engines[name]

        def prepare(connection: object, xid: object, name: str = name) -> None:
            seen.append(("prepare", name))

        def commit(connection: object, xid: object, prepared: bool, name: str = name) -> None:
            seen.append(("commit prepared" if prepared else "commit", name))

        event.listen(engine, "prepare_twophase", prepare)
        event.listen(engine, "commit_twophase", commit)
    return seen


def count(router: Router) -> dict[str, int]:
    """Return how many accounts and customers there are, by database."""
    tables = {"main": "accounts", "d0": "customers", "d1": "customers"}
    found = {}
    for name, table in tables.items():
        with router.engines[name].connect() as connection:
            found[name] = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    return found


def in_doubt(router: Router) -> list[object]:
    """Return what is prepared and not finished."""
    with router.engines["d0"].connect() as connection:
        own = "SELECT gid FROM pg_prepared_xacts WHERE database IN (current_database())"
        found: list[object] = list(connection.execute(text(own)))
    return found


def test_several_writers_are_prepared_first(mixed: Router) -> None:
    """All of them, before any of them commits."""
    seen = record(mixed)
    with mixed.sessionmaker().begin() as session:
        session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c"), Account(name="a")])
    assert [what for what, _ in seen] == ["prepare"] * 3 + ["commit prepared"] * 3
    assert count(mixed) == {"main": 1, "d0": 1, "d1": 1}
    assert in_doubt(mixed) == []


@pytest.mark.parametrize("writer", [Customer(id=0, name="c"), Account(name="a")], ids=["pg", "my"])
def test_one_writer_commits_plainly(mixed: Router, writer: object) -> None:
    """Readers beside it are not prepared either, on neither kind of server."""
    seen = record(mixed)
    with mixed.sessionmaker().begin() as session:
        session.scalars(select(Customer)).all()
        session.scalars(select(Account)).all()
        session.merge(writer)
    assert {what for what, _ in seen} == {"commit"}
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
        seen = record(router)
        with router.sessionmaker().begin() as session:
            session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c")])
        assert seen == []
        assert count(router) == {"main": 0, "d0": 1, "d1": 1}
