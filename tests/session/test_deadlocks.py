"""Transactions that wait for each other in several databases; no database can see it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import create_engine, func, make_url, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from router import CrossShardError, Router, retry
from router.deadlocks import watch
from router.hooks.cancelling import backend_of
from router.hooks.enlisting import entries
from tests.conftest import MakeDatabases
from tests.session.shop import Customer, open_router
from tests.support.databases import query
from tests.support.processes import eventually

KEYS = (0, 1)
"""Two customers, one on each shard."""

SECONDS = 60
TOLD = """SELECT FROM pg_locks WHERE locktype = 'advisory'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture
def urls(make_databases: MakeDatabases) -> list[str]:
    """Three databases of PostgreSQL, in which nothing ends a wait."""
    made = make_databases("postgresql", 3)
    for url in made:
        query(url, f"ALTER DATABASE {make_url(url).database} SET lock_timeout = 0")
    return made


@pytest.fixture
def router(urls: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    """A shop with two customers, in which looks are frequent."""
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0.2)
    with open_router(urls) as router:
        with router.sessionmaker().begin() as session:
            session.add_all(Customer(id=key, name="") for key in KEYS)
        assert len({router.engine_for("shop", key) for key in KEYS}) == len(KEYS)
        yield router


def name(session: Session, key: int, letter: str) -> None:
    """Lock the row of a customer by writing to it."""
    made = update(Customer).where(Customer.id == key)
    session.execute(made.values(name=Customer.name + letter))


def names(router: Router) -> list[str]:
    """Return the names of all customers, their letters in order."""
    with router.sessionmaker()() as session:
        found = session.scalars(select(Customer.name).order_by(Customer.id)).all()
    return ["".join(sorted(one)) for one in found]


def outcomes(works: list[Callable[[], Any]]) -> list[BaseException | None]:
    """Run every call in a thread of its own; return the error of each."""
    with ThreadPoolExecutor(len(works)) as threads:
        futures: list[Future[Any]] = [threads.submit(work) for work in works]
        return [one.exception(SECONDS) for one in futures]


def crosswise(router: Router, meet: threading.Barrier, first: int, lock: Any = name) -> None:
    """Lock both customers, the `first` one when both sessions are here."""
    with router.sessionmaker().begin() as session:
        lock(session, first, "ab"[first])
        meet.wait(SECONDS)
        lock(session, 1 - first, "ab"[first])


def lock_only(session: Session, key: int, letter: str) -> None:
    """Lock the row of a customer and leave it as it is."""
    del letter
    session.scalars(select(Customer).where(Customer.id == key).with_for_update()).one()


@pytest.mark.parametrize("lock", [name, lock_only], ids=["written", "locked"])
def test_one_is_given_up(router: Router, lock: Any) -> None:
    """The error says why, and the other one goes on."""
    meet = threading.Barrier(2)
    errors = outcomes(
        [lambda: crosswise(router, meet, 0, lock), lambda: crosswise(router, meet, 1, lock)]
    )
    failed = [one for one in errors if one is not None]
    assert len(failed) == 1
    assert isinstance(failed[0], CrossShardError)
    assert failed[0].id == "R404"
    assert "wait for each other" in str(failed[0])
    assert names(router) in ([["a", "a"], ["b", "b"]] if lock is name else [["", ""]])


def lock_a_number(session: Session, key: int, letter: str) -> None:
    """Lock something in a customer's database that is no row, by a SELECT."""
    del letter
    where = {"keyspace": "shop", "shard_key": key}
    session.execute(select(func.pg_advisory_xact_lock(1)), bind_arguments=where)


def lock_the_table(session: Session, key: int, letter: str) -> None:
    """Lock a table of a customer's database, and read it, which writes nothing."""
    where = {"keyspace": "shop", "shard_key": key}
    if letter == "a":
        session.execute(text("LOCK TABLE customers"), bind_arguments=where)
    else:
        session.execute(select(func.count(Customer.id)), bind_arguments=where).all()


@pytest.mark.parametrize("lock", [lock_a_number, lock_the_table])
def test_what_writes_nothing_waits_too(router: Router, lock: Any) -> None:
    """Locks are taken in many ways; that a transaction has begun in two databases is enough."""
    meet = threading.Barrier(2)

    def first() -> None:
        with router.sessionmaker().begin() as session:
            lock(session, 0, "a")
            meet.wait(SECONDS)
            lock(session, 1, "b")

    def second() -> None:
        with router.sessionmaker().begin() as session:
            lock(session, 1, "a")
            meet.wait(SECONDS)
            lock(session, 0, "b")

    errors = outcomes([first, second])
    assert sorted(str(getattr(one, "id", one)) for one in errors) == ["None", "R404"]


def test_beside_an_engine_that_is_not_in_the_map(
    router: Router, make_databases: MakeDatabases
) -> None:
    """What else a session uses does not matter."""
    other = create_engine(make_databases("postgresql", 1)[0])
    meet = threading.Barrier(2)

    def strange(session: Session, key: int, letter: str) -> None:
        session.execute(select(1), bind_arguments={"bind": other}).all()
        name(session, key, letter)

    errors = outcomes(
        [lambda: crosswise(router, meet, 0, strange), lambda: crosswise(router, meet, 1)]
    )
    other.dispose()
    assert sorted(str(getattr(one, "id", one)) for one in errors) == ["None", "R404"]


def test_a_commit_that_is_given_up_is_not_retried(
    urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without two-phase commits, one database has committed when another one has to wait."""
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0.2)
    # The first one is chosen.
    numbers = iter([2, 1])
    monkeypatch.setattr(watch.secrets, "randbits", lambda _: next(numbers))
    once, guard = text("INSERT INTO once VALUES (1)"), text("SELECT pg_advisory_xact_lock(1)")
    first = {"keyspace": "accounts"}
    second, third = ({"keyspace": "shop", "shard_key": key} for key in KEYS)
    inserted, guarded = threading.Event(), threading.Event()
    attempts: list[int] = []
    with open_router(urls, transactions={"two_phase": False}) as router:
        deferred = "CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
        query(router.engine_for("shop", 0).url, deferred)
        query(router.engine_for("accounts").url, "CREATE TABLE done (id int)")

        def commits(session: Session) -> None:
            attempts.append(1)
            assert inserted.wait(SECONDS)
            session.execute(text("INSERT INTO done VALUES (1)"), bind_arguments=first)
            session.execute(once, bind_arguments=second)
            session.execute(guard, bind_arguments=third)
            guarded.set()

        def waits() -> None:
            with router.sessionmaker()() as session:
                session.execute(once, bind_arguments=second)
                inserted.set()
                assert guarded.wait(SECONDS)
                session.execute(guard, bind_arguments=third)
                session.rollback()

        errors = outcomes([lambda: retry(router.sessionmaker(), commits), waits])
        assert [getattr(one, "id", one) for one in errors] == ["R404", None]
        assert query(router.engine_for("accounts").url, "SELECT id FROM done") == [(1,)]
    assert attempts == [1]


def test_it_is_retried(router: Router) -> None:
    """Both are done in the end."""
    meet = threading.Barrier(2)

    def work(first: int) -> Callable[[Session], None]:
        def run(session: Session) -> None:
            name(session, first, "ab"[first])
            if not meet.broken:
                with contextlib.suppress(threading.BrokenBarrierError):
                    meet.wait(2)
            name(session, 1 - first, "ab"[first])

        return run

    make = router.sessionmaker()
    errors = outcomes(
        [lambda: retry(make, work(0), attempts=5), lambda: retry(make, work(1), attempts=5)]
    )
    assert errors == [None, None]
    assert names(router) == ["ab", "ab"]


def test_through_one_that_is_in_one_database(router: Router) -> None:
    """Those in between need not be ours: here one waits in the queue for a row."""
    meet = threading.Barrier(3)
    third = threading.Event()

    def between() -> None:
        meet.wait(SECONDS)
        with router.engine_for("shop", 0).begin() as connection:
            connection.execute(text("SELECT FROM customers WHERE id = 0 FOR NO KEY UPDATE"))
            third.set()

    def first() -> None:
        with router.sessionmaker().begin() as session:
            name(session, 0, "a")
            meet.wait(SECONDS)
            assert eventually(lambda: len(waiting(router)) == 2)
            name(session, 1, "a")

    def second() -> None:
        with router.sessionmaker().begin() as session:
            name(session, 1, "b")
            meet.wait(SECONDS)
            # Behind the one in between, which waits for the first.
            assert eventually(lambda: len(waiting(router)) == 1)
            name(session, 0, "b")

    errors = outcomes([first, second, between])
    assert errors[2] is None
    assert third.is_set()
    assert [getattr(one, "id", None) for one in errors].count("R404") == 1


def waiting(router: Router, key: int = 0) -> list[Any]:
    """Return who waits for a lock in the database of a customer."""
    asked = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return query(router.engine_for("shop", key).url, asked)


def test_between_tasks(router: Router) -> None:
    """The same in asyncio."""

    async def one(first: int, meet: asyncio.Barrier) -> None:
        async with router.async_sessionmaker().begin() as session:
            for key in (first, 1 - first):
                made = update(Customer).where(Customer.id == key)
                await session.execute(made.values(name=Customer.name + "ab"[first]))
                if key == first:
                    await meet.wait()

    async def main() -> list[Any]:
        meet = asyncio.Barrier(2)
        try:
            return await asyncio.gather(one(0, meet), one(1, meet), return_exceptions=True)
        finally:
            await router.aclose()

    errors = asyncio.run(main())
    assert sorted(str(getattr(one, "id", None)) for one in errors) == ["None", "R404"]


def test_between_processes(router: Router, urls: list[str]) -> None:
    """Each tells the other which backends belong together, and both choose the same victim."""
    queue = CONTEXT.Queue()
    meet = CONTEXT.Barrier(2)
    processes = [CONTEXT.Process(target=_crosswise, args=(urls, at, meet, queue)) for at in KEYS]
    for process in processes:
        process.start()
    try:
        found = sorted(queue.get(timeout=SECONDS) for _ in processes)
    finally:
        for process in processes:
            process.join(SECONDS)
            process.kill()
    assert found == ["", "R404"]
    assert names(router) in ([["a", "a"], ["b", "b"]])


def _crosswise(urls: list[str], first: int, meet: Any, queue: Any) -> None:
    watch.INTERVAL_SECONDS = 0.2
    with open_router(urls) as router:
        try:
            crosswise(router, meet, first)
        except Exception as error:  # noqa: BLE001 - it is looked at elsewhere
            queue.put(getattr(error, "id", repr(error)))
        else:
            queue.put("")


def test_who_only_waits_is_left_alone(router: Router) -> None:
    """Somebody who takes long is no deadlock, even one who has locked what others wait for."""
    locked, done = threading.Event(), threading.Event()

    def slow() -> None:
        with router.sessionmaker().begin() as session:
            name(session, 0, "a")
            locked.set()
            done.wait(SECONDS)

    def waits() -> None:
        locked.wait(SECONDS)
        with router.sessionmaker().begin() as session:
            name(session, 1, "b")
            threading.Timer(watch.INTERVAL_SECONDS * 10, done.set).start()
            name(session, 0, "b")

    assert outcomes([slow, waits]) == [None, None]
    assert names(router) == ["ab", "b"]


def test_nothing_stays(router: Router) -> None:
    """No lock, no connection beyond the pool, and no word of it to PostgreSQL."""
    meet = threading.Barrier(2)
    outcomes([lambda: crosswise(router, meet, 0), lambda: crosswise(router, meet, 1)])
    for key in KEYS:
        engine = router.engine_for("shop", key)
        assert eventually(lambda url=engine.url: query(url, TOLD) == [])  # type: ignore[misc]
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_mariadb_ends_it_by_itself(make_databases: MakeDatabases) -> None:
    """After its own time, with its own error, which is retried, too."""
    with open_router(make_databases("mariadb", 3)) as router:
        with router.sessionmaker().begin() as session:
            session.add_all(Customer(id=key, name="") for key in KEYS)
        meet = threading.Barrier(2)

        def briefly(session: Session, key: int, letter: str) -> None:
            for one in entries(session.get_transaction()):
                one.connection.exec_driver_sql("SET innodb_lock_wait_timeout = 1")
            name(session, key, letter)

        errors = outcomes(
            [
                lambda: crosswise(router, meet, 0, briefly),
                lambda: crosswise(router, meet, 1, briefly),
            ]
        )
        failed = [one for one in errors if one is not None]
        assert failed
        assert all(isinstance(one, DBAPIError) and "1205" in str(one) for one in failed)


def test_a_look_does_not_connect(router: Router) -> None:
    """It is made in a thread of its own: nobody would give back what it has opened."""
    engine = router.engine_for("shop", KEYS[0])
    with engine.connect() as connection:
        seen = backend_of(connection)
        assert seen is not None
        assert seen.pid == connection.scalar(text("SELECT pg_backend_pid()"))
        connection.rollback()
        connection.invalidate()
        assert backend_of(connection) is None
        assert connection.invalidated
    assert backend_of(connection) is None
