"""What commits lean on inside SQLAlchemy is where it was, and does what it did."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, create_engine, event, insert, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column
from sqlalchemy.pool import NullPool

from router import RoutingSession
from router.errors import CrossShardError
from router.hooks import transaction
from router.hooks.commit import commit_in_one_phase
from tests.conftest import MakeDatabases


class Base(DeclarativeBase):
    """Base of the model."""


class Owner(Base):
    """A row."""

    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@pytest.fixture
def engines(make_databases: MakeDatabases) -> Iterator[list[Engine]]:
    """Two databases with the table."""
    made = [create_engine(url) for url in make_databases("sqlite", 2)]
    for engine in made:
        Base.metadata.create_all(engine)
    yield made
    for engine in made:
        engine.dispose()


# -- commit -------------------------------------------------------------------------------------


def test_two_phase_ends_of_dialects() -> None:
    """MySQL's are replaced by ones of the same signature; others are left alone."""
    for name in ("do_commit_twophase", "do_rollback_twophase"):
        dialect: Any = mysql.dialect()
        before = inspect.signature(getattr(dialect, name))
        assert list(before.parameters) == ["connection", "xid", "is_prepared", "recover"]
        commit_in_one_phase(dialect)
        after = inspect.signature(getattr(dialect, name))
        assert list(after.parameters) == list(before.parameters)
        assert [one.default for one in after.parameters.values()][2:] == [True, False]
        for other in (postgresql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]
            commit_in_one_phase(other)
            assert name not in vars(other)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_ends_of_branches_that_were_not_prepared(make_databases: MakeDatabases, end: str) -> None:
    """One round trip less, and no error; prepared ones end as ever."""
    engine = create_engine(make_databases("mariadb", 1)[0], poolclass=NullPool)
    commit_in_one_phase(engine.dialect)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id int)"))
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    for prepares in (False, True):
        with engine.connect() as connection:
            branch = connection.begin_twophase()
            connection.execute(text("INSERT INTO t VALUES (1)"))
            if prepares:
                branch.prepare()
            getattr(branch, end)()
    verbs = [" ".join(one.split()[:2]) for one in sent if one.startswith("XA")]
    last = f"XA {end.upper()}"
    assert verbs == ["XA BEGIN", "XA END", last, "XA BEGIN", "XA END", "XA PREPARE", last]
    assert [one.endswith("ONE PHASE") for one in sent if one.startswith(last)] == [
        end == "commit",
        False,
    ]
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM t")).scalar_one()
    assert count == (2 if end == "commit" else 0)


# -- transaction --------------------------------------------------------------------------------


class Routed(RoutingSession):
    """A session without a map, whose transactions are turned into routed ones all the same."""

    two_phase = False

    @property
    def _is_two_phase(self) -> bool:
        return self.two_phase

    def _begins_two_phase(self, bind: Any) -> bool:
        return self.two_phase


@event.listens_for(Routed, "after_transaction_create", insert=True)
def _adopt(session: Session, made: Any) -> None:
    transaction.adopt(made)


def test_parts_of_a_transaction(engines: list[Engine]) -> None:
    """A connection stands there by itself and by its engine, with what ends it."""
    with Routed() as session:
        connections = [session.connection({"bind": engine}) for engine in engines]
        root: Any = session.get_transaction()
        assert isinstance(root, transaction.RoutedTransaction)
        assert set(root._connections) == {*connections, *engines}
        for connection, engine in zip(connections, engines, strict=True):
            entry = root._connections[engine]
            assert entry == root._connections[connection]
            assert (entry[0], entry[1], entry[2:]) == (
                connection,
                connection.get_transaction(),
                (True, True),
            )
        assert session.begin_nested()._parent is root
        for name in ("_connection_for_bind", "_prepare_impl", "prepare"):
            theirs = inspect.signature(getattr(SessionTransaction, name))
            ours = inspect.signature(getattr(transaction.RoutedTransaction, name))
            assert list(ours.parameters) == list(theirs.parameters)
        assert SessionTransaction.declare_states is not None


def test_readers_end_before_writers_commit(engines: list[Engine]) -> None:
    """Whatever the order in which they were used."""
    ended: list[Engine] = []
    for engine in engines:
        event.listen(engine, "commit", lambda connection: ended.append(connection.engine))
    for writer, reader in (engines, engines[::-1]):
        with Routed() as session:
            session.execute(insert(Owner).values(id=1), bind_arguments={"bind": writer})
            session.execute(select(Owner), bind_arguments={"bind": reader})
            root: Any = session.get_transaction()
            root.wrote.add(writer)
            session.commit()
    assert ended == [*engines[::-1], *engines]


def test_a_torn_transaction_is_rolled_back(engines: list[Engine]) -> None:
    """Its commit raises, and nothing of it stays; the session can go on."""
    with Routed(engines[0]) as session:
        session.add(Owner(id=1))
        session.flush()
        root: Any = session.get_transaction()
        root.torn = ValueError("one copy only")
        with pytest.raises(CrossShardError, match="R307") as caught:
            session.commit()
        assert caught.value.__cause__ is root.torn
        assert session.scalars(select(Owner)).all() == []


def test_several_writers_are_prepared(make_databases: MakeDatabases) -> None:
    """Two-phase transactions begin where they must; one that failed is noticed in time."""
    engines = [create_engine(url, poolclass=NullPool) for url in make_databases("postgresql", 2)]
    for engine in engines:
        Base.metadata.create_all(engine)
    prepared: list[Engine] = []
    for engine in engines:
        event.listen(engine, "prepare_twophase", lambda one, _: prepared.append(one.engine))
    assert TransactionStatus.INERROR.value == transaction._PSYCOPG_INERROR
    for fails in (False, True):
        with Routed() as session:
            session.two_phase = True
            for engine in engines:
                session.execute(insert(Owner).values(id=fails), bind_arguments={"bind": engine})
            root: Any = session.get_transaction()
            root.wrote.update(engines)
            if fails:
                with pytest.raises(DBAPIError):
                    session.connection({"bind": engines[1]}).execute(text("SELECT nothing"))
                with pytest.raises(CrossShardError, match="R401"):
                    session.commit()
            else:
                session.commit()
            assert session.twophase is False
    assert prepared == engines
    for engine in engines:
        with engine.connect() as connection:
            assert connection.execute(select(Owner.id)).scalars().all() == [0]
