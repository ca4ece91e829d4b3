"""Several shards at once: what overlaps, what must not, and what happens when one fails."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from router import Router, ShardUnavailableError
from router.hooks.driver import set_pace
from router.lanes.pace import Fixed
from tests.session.conftest import watch
from tests.session.shop import Account, Country, Customer, Note

SERVERS = ("postgresql", "mariadb")
SHARDS = ("d0", "d1")
PATIENCE = 60
"""Seconds after which a test gives up; nothing waits so long unless it is broken."""

on_servers = pytest.mark.parametrize("dialect", SERVERS, indirect=True)
on_postgresql = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)


@pytest.fixture
def full(shop: Router) -> Router:
    """A shop with four customers, two on each shard, where no call is too short for a thread."""
    with shop.sessionmaker().begin() as session:
        session.add_all(Customer(id=key, name=f"c{key}") for key in range(4))
    for engine in shop.engines.values():
        if engine.dialect.name != "sqlite":
            set_pace(engine, Fixed(True))
    return shop


@contextmanager
def beside(router: Router, name: str) -> Iterator[Any]:
    """Yield a connection to a database that has nothing to do with the router."""
    engine = create_engine(router.engines[name].url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def locked(router: Router, *names: str) -> Iterator[None]:
    """Let nobody read the customers of these databases while the context lasts."""
    with ExitStack() as stack:
        for name in names:
            connection = stack.enter_context(beside(router, name))
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE"))
            else:
                connection.execute(text("LOCK TABLES customers WRITE"))
        yield


_WAITING = {
    "postgresql": "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
    "WHERE d.datname = current_database() AND NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.processlist "
    "WHERE db = database() AND state LIKE 'Waiting for table%'",
}


def waiting(router: Router, name: str) -> int:
    """Return how many statements wait for a lock in a database."""
    with beside(router, name) as connection:
        connection.execute(text("SELECT 1"))
        return int(connection.scalar(text(_WAITING[connection.dialect.name])))


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    done = threading.Event()
    for _ in range(PATIENCE * 20):
        if condition():
            return
        done.wait(0.05)
    raise AssertionError("it never came to that")


def assert_unharmed(router: Router) -> None:
    """Check that nothing is checked out, and that new sessions see every shard."""
    # Somebody may still be connecting for a session that has given up.
    pools: list[Any] = [engine.pool for engine in router.engines.values()]
    until(lambda: all(pool.checkedout() == 0 for pool in pools))
    with router.sessionmaker()() as session:
        assert len(session.scalars(select(Customer)).all()) == 4


# -- what overlaps ------------------------------------------------------------------------------


@on_servers
def test_statements_overlap(full: Router) -> None:
    """Both shards are asked before either has answered."""

    def read() -> list[int]:
        with full.sessionmaker()() as session:
            return sorted(session.scalars(select(Customer.id)))

    with ThreadPoolExecutor(1) as pool:
        with locked(full, *SHARDS):
            found = pool.submit(read)
            until(lambda: all(waiting(full, name) for name in SHARDS))
        assert found.result(PATIENCE) == [0, 1, 2, 3]


class Meeting(psycopg.Connection[Any]):
    """A connection that notes when it begins to end its transaction, and how it has."""

    met: ClassVar[list[str]] = []

    def _meet(self, how: str, end: Callable[[], None]) -> None:
        begun = bool(self.info.transaction_status)
        self.met.extend(["begun"] * begun)
        end()
        self.met.extend([how] * begun)

    def rollback(self) -> None:
        self._meet("rollback", super().rollback)

    def commit(self) -> None:
        self._meet("commit", super().commit)

    def tpc_rollback(self, xid: Any = None) -> None:
        self._meet("rollback", lambda: super(Meeting, self).tpc_rollback(xid))

    def tpc_commit(self, xid: Any = None) -> None:
        self._meet("commit", lambda: super(Meeting, self).tpc_commit(xid))


@on_postgresql
@pytest.mark.parametrize("end", ["close", "rollback", "commit"])
def test_connecting_and_ending_overlap(full: Router, end: str) -> None:
    """Connections are opened together, and those that were only read end together."""
    full.dispose()
    opening = threading.Barrier(2)

    def connect(_: object, __: object, arguments: Any, options: Any) -> Any:
        opening.wait(PATIENCE)
        return Meeting.connect(*arguments, **options)

    for name in SHARDS:
        event.listen(full.engines[name], "do_connect", connect)
    Meeting.met.clear()
    with full.sessionmaker()() as session:
        assert len(session.scalars(select(Customer)).all()) == 4
        getattr(session, end)()
    how = "commit" if end == "commit" else "rollback"
    assert Meeting.met == ["begun", "begun", how, how]
    for name in SHARDS:
        event.remove(full.engines[name], "do_connect", connect)
    full.dispose()
    assert_unharmed(full)


@on_servers
def test_connections_of_a_savepoint(full: Router) -> None:
    """Shards that are reached first inside a savepoint are enlisted around it, too."""
    with full.sessionmaker()() as session:
        with session.begin_nested():
            assert len(session.scalars(select(Customer)).all()) == 4
        assert len(session.scalars(select(Customer)).all()) == 4
        session.commit()
    assert_unharmed(full)


@on_servers
def test_events_that_use_the_connection(full: Router) -> None:
    """An `after_begin` handler that executes is not disturbed by the other shard."""
    make = full.sessionmaker()
    seen: list[int] = []

    def begun(session: object, transaction: object, connection: Any) -> None:
        seen.append(connection.scalar(text("SELECT 7")))

    with make() as session:
        event.listen(session, "after_begin", begun)
        assert len(session.scalars(select(Customer)).all()) == 4
    assert seen == [7, 7]


def test_pending_rows_are_seen_on_every_shard(full: Router) -> None:
    """The session flushes once, before any shard is asked."""
    with full.sessionmaker()() as session:
        session.add_all(Customer(id=key, name="new") for key in (4, 5))
        assert len(session.scalars(select(Customer)).all()) == 6
        session.add_all(Customer(id=key, name="new") for key in (6, 7))
        with session.no_autoflush:
            assert len(session.scalars(select(Customer)).all()) == 6
        query = session.query(Customer).autoflush(False)
        assert len(query.all()) == 6
        assert len(query.execution_options(autoflush=True).all()) == 8


def test_objects_with_relations(full: Router) -> None:
    """Objects of both shards share one identity map, one country among them."""
    with full.sessionmaker().begin() as session:
        country = Country(name="DE")
        for customer in session.scalars(select(Customer)):
            customer.country = country
            customer.notes = [Note(id=customer.id // 2, text=customer.name)]
    with full.sessionmaker()() as session:
        found = session.scalars(select(Customer)).all()
        assert len({customer.country for customer in found}) == 1
        assert {note.text for one in found for note in one.notes} == {"c0", "c1", "c2", "c3"}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_sqlite_stays_on_its_thread(full: Router) -> None:
    """What is near is not handed over: no thread is ever made."""
    with full.sessionmaker()() as session:
        assert len(session.scalars(select(Customer)).all()) == 4
    assert full.engines._workers.count == 0


# -- what must not overlap ----------------------------------------------------------------------


@on_servers
def test_locks_are_taken_in_order(full: Router) -> None:
    """A read that locks rows reaches the second shard after the first has answered."""
    sent = watch(full)

    def lock() -> list[int]:
        with full.sessionmaker()() as session:
            return sorted(session.scalars(select(Customer.id).with_for_update()))

    with ThreadPoolExecutor(1) as pool:
        with locked(full, "d0"):
            found = pool.submit(lock)
            until(lambda: waiting(full, "d0") == 1)
            assert sent.count("SELECT") == {"d0": 1}
        assert found.result(PATIENCE) == [0, 1, 2, 3]
    assert sent.count("SELECT") == {"d0": 1, "d1": 1}


# -- failures -----------------------------------------------------------------------------------


@on_servers
def test_an_error_cancels_the_others_and_names_the_shard(full: Router) -> None:
    """Its type is kept; a shard that would wait forever is not waited for."""
    with beside(full, "d1") as connection:
        connection.execute(text("ALTER TABLE customers RENAME TO elsewhere"))
        connection.commit()
    with full.sessionmaker()() as session:
        with (
            locked(full, "d0"),
            pytest.raises(ProgrammingError, match=r"on shard shop/s1, database d1") as caught,
        ):
            session.scalars(select(Customer)).all()
        assert caught.value.orig is caught.value.__cause__
        assert "elsewhere" not in str(caught.value)
        until(lambda: waiting(full, "d0") == 0)
        session.rollback()
        with beside(full, "d1") as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO customers"))
            connection.commit()
        assert len(session.scalars(select(Customer)).all()) == 4
    assert_unharmed(full)


@on_servers
@pytest.mark.parametrize("given", ["statement", "execution"])
def test_a_shard_that_does_not_answer_in_time(full: Router, given: str) -> None:
    """The error names it; the session can be rolled back and used again."""
    statement, options = select(Customer), {"shard_timeout": 0.5}
    limited = statement.execution_options(**options) if given == "statement" else statement
    with full.sessionmaker()() as session:
        with locked(full, "d0"), pytest.raises(ShardUnavailableError) as caught:
            session.scalars(limited, execution_options=options if given == "execution" else {})
        assert isinstance(caught.value, OperationalError)
        assert caught.value.id == "R502"
        assert caught.value.database == "d0"
        assert "no answer within 0.5 s from shard shop/s0, database d0" in str(caught.value)
        session.rollback()
        found = session.scalars(statement, execution_options={"shard_timeout": PATIENCE}).all()
        assert len(found) == 4
    assert_unharmed(full)


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_time_limit_on_sqlite(full: Router) -> None:
    """A statement that takes too long is interrupted, although no thread runs it."""
    for name in SHARDS:

        @event.listens_for(full.engines[name], "connect")
        def endless(connection: Any, _: object) -> None:
            forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            connection.execute(f"CREATE TEMP VIEW customers AS {forever} SELECT i AS id FROM n")

    full.dispose()
    never = select(Customer.id).where(Customer.id < 0).execution_options(shard_timeout=0.2)
    with full.sessionmaker()() as session, pytest.raises(ShardUnavailableError, match="shop/s0"):
        session.scalars(never)


@on_servers
def test_a_shard_that_is_down(full: Router) -> None:
    """The error says so, and what the other shard's connection was doing comes to its end."""
    full.dispose()
    broken: Engine = full.engines["d1"]

    @event.listens_for(broken, "do_connect")
    def connect(dialect: Any, *_: object) -> None:
        raise dialect.loaded_dbapi.OperationalError("it is down")

    with full.sessionmaker()() as session:
        with pytest.raises(
            ShardUnavailableError, match=r"R501 database d1 .* it is down"
        ) as caught:
            session.scalars(select(Customer)).all()
        assert caught.value.__notes__ == ["on shard shop/s1, database d1"]
        session.rollback()
        event.remove(broken, "do_connect", connect)
        assert len(session.scalars(select(Customer)).all()) == 4
    assert_unharmed(full)


@on_servers
def test_interrupted(full: Router) -> None:
    """Control-C ends the wait; no statement goes on and no connection is lost."""

    def interrupt() -> None:
        until(lambda: all(waiting(full, name) for name in SHARDS))
        _thread.interrupt_main()

    with full.sessionmaker()() as session:
        with ThreadPoolExecutor(1) as pool, locked(full, *SHARDS):
            done = pool.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                session.scalars(select(Customer)).all()
            done.result(PATIENCE)
            until(lambda: not any(waiting(full, name) for name in SHARDS))
        session.rollback()
        assert len(session.scalars(select(Customer)).all()) == 4
    assert_unharmed(full)


@on_postgresql
def test_a_connection_that_breaks_at_the_end(full: Router) -> None:
    """The other database is rolled back all the same, and the error is raised."""
    with full.sessionmaker()() as session:
        session.add_all([Customer(id=4, name="new"), Customer(id=5, name="new")])
        session.flush()
        with beside(full, "d0") as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        with pytest.raises(OperationalError):
            session.rollback()
        assert len(session.scalars(select(Customer)).all()) == 4
    assert_unharmed(full)


@on_servers
def test_writers_roll_back_together(full: Router) -> None:
    """A transaction over all databases leaves nothing behind."""
    with full.sessionmaker()() as session:
        session.add(Account(id=1, name="a"))
        session.add_all([Customer(id=4, name="new"), Customer(id=5, name="new")])
        session.flush()
        session.rollback()
        session.add_all([Customer(id=4, name="new"), Customer(id=5, name="new")])
        session.flush()
        with pytest.raises(IntegrityError):
            session.execute(
                text("INSERT INTO customers (id, name) VALUES (4, 'x')"),
                bind_arguments={"shard": "shop/s0"},
            )
    with full.sessionmaker()() as session:
        assert session.scalar(select(func.count()).select_from(Account)) == 0
    assert_unharmed(full)
