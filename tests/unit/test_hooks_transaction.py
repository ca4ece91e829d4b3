"""What commits lean on inside SQLAlchemy is where it was, and does what it did."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column

from router import RoutingSession
from router.errors import CrossShardError, RouterError
from router.hooks import enlisting, transaction, xa
from router.transaction.listing import Listed, prepared
from router.transaction.names import Branch, new_gtid, new_identity
from router.transaction.protocol import Verdict
from router.transaction.settling import settle
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


# -- branches of XA -----------------------------------------------------------------------------


def test_ends_of_dialects() -> None:
    """MySQL's are replaced by ones that are given a connection; others are left alone."""
    for name in ("do_commit", "do_rollback"):
        dialect: Any = mysql.dialect()
        assert list(inspect.signature(getattr(dialect, name)).parameters) == ["dbapi_connection"]
        xa.install(dialect)
        assert getattr(dialect, name).__name__ == name
        for other in (postgresql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]
            xa.install(other)
            assert name not in vars(other)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("stage", list(xa.Stage))
def test_ends_of_branches(make_databases: MakeDatabases, stage: xa.Stage, end: str) -> None:
    """In one phase unless prepared; what is prepared ends only by its own name."""
    engine = create_engine(make_databases("mariadb", 1)[0])
    xa.install(engine.dialect)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id int)"))
    named = Branch(new_gtid(), new_identity(), new_identity())
    with engine.connect() as connection:
        number = connection.connection.driver_connection.thread_id()  # type: ignore[union-attr]
        name = named.xid(number)
        transaction = connection.begin()
        xa.start(connection, name)
        connection.execute(text("INSERT INTO t VALUES (1)"))
        branch = xa.branch_of(connection)
        assert branch is not None
        if stage is not xa.Stage.ACTIVE:
            xa.end(connection, branch)
        if stage in (xa.Stage.PREPARED, xa.Stage.SETTLED):
            connection.exec_driver_sql(f"XA PREPARE {name}")
        if stage is xa.Stage.SETTLED:
            connection.exec_driver_sql(f"XA {end} {name}")
        branch.stage = stage
        if stage is xa.Stage.PREPARED:
            with pytest.raises(RouterError, match="R411"):
                getattr(transaction, end)()
        else:
            getattr(transaction, end)()
            assert xa.branch_of(connection) is None
    if stage is xa.Stage.PREPARED:
        # The connection is closed, and the branch is still there.
        verdict = Verdict.COMMIT if end == "commit" else Verdict.ABORT
        settle(engine, Listed(named, number), verdict, time.sleep)
    with engine.connect() as connection:
        assert named not in [one.branch for one in prepared(connection)]
        count = connection.execute(text("SELECT count(*) FROM t")).scalar_one()
    assert count == (1 if end == "commit" else 0)
    engine.dispose()


# -- transaction --------------------------------------------------------------------------------


class Routed(RoutingSession):
    """A session without a map, whose transactions are turned into routed ones all the same."""

    def _begins_branch(self, bind: Any) -> bool:
        return False

    def _watch_for_deadlocks(self, transaction: Any) -> None:
        """Leave that to others."""

    def _ending(self, transaction: Any) -> Any:
        return Plainly(transaction)


class Plainly:
    """Ends every database, the ones that wrote last."""

    is_several = is_in_doubt = False
    unresolved = ()

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction

    def prepare(self) -> None:
        """Prepare nothing."""

    def commit(self) -> None:
        """Commit every database, and let the session forget it."""
        found = enlisting.entries(self._transaction)
        for entry in sorted(found, key=lambda one: one.connection.engine in self._wrote):
            entry.transaction.commit()
            enlisting.forget(self._transaction, entry)
            entry.connection.close()

    def raise_interrupt(self) -> None:
        """Raise nothing."""

    @property
    def _wrote(self) -> set[Engine]:
        wrote: set[Engine] = self._transaction.wrote
        return wrote


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


def test_an_ending_takes_the_connections(engines: list[Engine]) -> None:
    """What has ended is out of the session's transaction, which then is committed, too."""
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


class Beside:
    """A connection that a session reads on, and what became of it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.released: list[bool] = []
        transaction.begin_lending(connection)

    def release(self, invalidate: bool) -> None:
        """Give the connection back."""
        self.released.append(invalidate)
        transaction.end_lending(self.connection)
        self.connection.close()


@pytest.mark.parametrize("end", ["commit", "rollback", "close", "invalidate"])
def test_a_connection_beside_a_transaction(engines: list[Engine], end: str) -> None:
    """Statements run on it, in savepoints too; no end but its own touches it."""
    begun: list[Connection] = []
    with Routed(engines[0]) as session:
        event.listen(session, "after_begin", lambda s, t, connection: begun.append(connection))
        session.execute(insert(Owner).values(id=1))
        root: Any = session.get_transaction()
        connection = enlisting.open_beside(session, engines[1], lambda found: True)
        assert connection is not None
        assert connection.in_transaction()
        enlisting.tell_begun(session, root, connection)
        assert begun[-1] is connection
        beside = Beside(connection)
        root.beside = {"d1": beside}
        arguments = {"bind": connection}
        assert session.scalars(select(Owner), bind_arguments=arguments).all() == []
        with session.begin_nested():
            assert session.scalars(select(Owner), bind_arguments=arguments).all() == []
        assert root.is_usable()
        assert connection not in root._connections
        getattr(session, end)()
        assert beside.released == [end == "invalidate"]
        session.rollback()
    assert beside.released == [end == "invalidate"]


def test_a_connection_that_does_not_suit(engines: list[Engine]) -> None:
    """It is given back, also after an error."""
    with Routed(engines[0]) as session:
        assert enlisting.open_beside(session, engines[1], lambda found: False) is None
        with pytest.raises(ZeroDivisionError):
            enlisting.open_beside(session, engines[1], lambda found: 1 / 0 > 0)
    assert engines[1].pool.checkedout() == 0  # type: ignore[attr-defined]


def test_how_a_transaction_ended_is_told(engines: list[Engine]) -> None:
    """Whether it is known depends on whether a commit failed."""
    told: list[bool] = []

    class Telling(Routed):
        def _has_written(self, *written: Any) -> None:
            *_, is_known = written
            told.append(is_known)

    event.listen(Telling, "after_transaction_create", lambda s, made: transaction.adopt(made))
    for end in ("commit", "rollback", "fail"):
        with Telling(engines[0]) as session:
            session.execute(select(Owner))
            root: Any = session.get_transaction()
            root.wrote.add(engines[0])
            if end == "fail":
                session.connection().connection.dbapi_connection.close()  # type: ignore[union-attr]
                with pytest.raises(ProgrammingError):
                    session.commit()
                session.rollback()
            else:
                getattr(session, end)()
    assert told == [True, True, False]


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
