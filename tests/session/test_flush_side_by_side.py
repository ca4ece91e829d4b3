"""New rows of several shards are inserted at the same time, where that is safe."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import object_session

from router import CrossShardError, Router
from router.deadlocks import watch
from tests.conftest import MakeDatabases
from tests.session.shop import Customer, open_router

KEYS = range(8)
SECONDS = 60


@pytest.fixture
def urls(make_databases: MakeDatabases) -> list[str]:
    """Three databases of PostgreSQL."""
    return make_databases("postgresql", 3)


@pytest.fixture
def router(urls: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    """A shop on them."""
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0.2)
    with open_router(urls) as router:
        yield router


def engines(router: Router) -> list[Engine]:
    """Return the engines of the shards."""
    return list(dict.fromkeys(router.engine_for("shop", key) for key in KEYS))


def customers() -> list[Customer]:
    """Return new objects of both shards."""
    return [Customer(id=key, name="c") for key in KEYS]


def count(router: Router) -> int:
    """Return how many there are."""
    with router.sessionmaker()() as session:
        return session.scalar(select(func.count()).select_from(Customer)) or 0


def lock(engine: Engine) -> Any:
    """Return a connection that keeps everybody from writing customers in a database."""
    connection = engine.connect()
    connection.execute(text("LOCK TABLE customers IN SHARE MODE"))
    return connection


def wait_for(engine: Engine) -> None:
    """Wait until somebody waits for a lock there."""
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(1000):
        with engine.connect() as connection:
            if connection.scalar(query):
                return
    raise TimeoutError


def flush(router: Router) -> None:
    """Write new objects in a session."""
    with router.sessionmaker().begin() as session:
        session.add_all(customers())


def flush_below_asyncio(router: Router) -> None:
    """Do it in a task."""

    async def main() -> None:
        try:
            async with router.async_sessionmaker().begin() as session:
                session.add_all(customers())
        finally:
            await router.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("write", [flush, flush_below_asyncio])
def test_both_are_under_way(router: Router, write: Callable[[Router], None]) -> None:
    """While each database waits for a lock, the other one has its rows already."""
    first, second = engines(router)
    blockers = [lock(first), lock(second)]
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write, router)
        try:
            wait_for(first)
            wait_for(second)
        finally:
            for one in blockers:
                one.close()
        writing.result(SECONDS)
    assert count(router) == len(KEYS)


@contextmanager
def heard(name: str, handler: Callable[..., None]) -> Iterator[None]:
    """Call a handler for new customers."""
    event.listen(Customer, name, handler)
    try:
        yield
    finally:
        event.remove(Customer, name, handler)


def test_each_database_gets_one_statement(router: Router) -> None:
    """And each object is in its session afterwards."""
    sent: list[str] = []
    for engine in engines(router):
        event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with router.sessionmaker()() as session:
        session.add_all(customers())
        session.flush()
        assert [one.split()[0] for one in sent if "customers" in one] == ["INSERT"] * 2
        assert all(one in session for one in session.scalars(select(Customer)))
        session.rollback()
    assert count(router) == 0


def test_handlers_have_the_session_for_themselves(router: Router) -> None:
    """They may use it, also for a savepoint, and change rows that are not written yet."""

    def use(mapper: object, connection: object, row: Any) -> None:
        session: Any = object_session(row)
        with session.begin_nested():
            session.execute(select(Customer.id).where(Customer.id == row.id)).all()
        for other in session.new:
            other.name += "x"

    seen: list[int] = []
    with heard("before_insert", use), router.sessionmaker().begin() as session:
        session.add_all(customers())
    note = lambda mapper, connection, row: seen.append(row.id)  # noqa: E731
    with heard("after_insert", note), router.sessionmaker()() as session:
        session.add_all(Customer(id=100 + key, name="c") for key in KEYS)
        session.flush()
    assert sorted(seen) == [100 + key for key in KEYS]
    with router.sessionmaker()() as session:
        written = session.scalars(select(Customer.name)).all()
    assert written == ["c" + "x" * len(KEYS)] * len(KEYS)


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "savepoint"])
def test_one_of_them_fails(router: Router, nested: bool) -> None:
    """The error names its database, nothing is written, and the session can go on."""
    second = engines(router)[1]
    taken = next(key for key in KEYS if router.engine_for("shop", key) is second)
    with router.sessionmaker().begin() as session:
        session.add(Customer(id=taken, name="taken"))
    with router.sessionmaker()() as session:
        inner = session.begin_nested() if nested else None
        session.add_all(customers())
        with pytest.raises(IntegrityError, match="on database"):
            session.flush()
        if inner is not None:
            inner.rollback()
        else:
            session.rollback()
        session.add(Customer(id=100, name="c"))
        session.commit()
    assert count(router) == 2


def test_two_sessions_with_the_same_rows(router: Router) -> None:
    """Whichever comes first where, one of them is told, and nobody waits forever."""
    meet = threading.Barrier(2)
    first, second = engines(router)

    def write(other: Engine) -> None:
        with router.sessionmaker().begin() as session:
            mine = next(key for key in KEYS if router.engine_for("shop", key) is other)
            session.add(Customer(id=mine, name="c"))
            session.flush()
            meet.wait(SECONDS)
            session.add_all(one for one in customers() if one.id != mine)

    with ThreadPoolExecutor(2) as threads:
        errors = [threads.submit(write, one) for one in (first, second)]
        found = [one.exception(SECONDS) for one in errors]
    failed = [one for one in found if one is not None]
    assert len(failed) == 1
    assert isinstance(failed[0], (CrossShardError, IntegrityError))
    assert count(router) == len(KEYS)
