"""Several shards at once below SQLAlchemy's asyncio extension: by tasks, with the same outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from sqlalchemy import event, make_url, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util.concurrency import await_only, greenlet_spawn

from router import Router, ShardUnavailableError
from router.hooks import colour, driver
from router.lanes.workers import Workers
from router.session.sync import RoutingSession
from tests.session.shop import Customer
from tests.session.test_parallel import SHARDS, beside, locked, waiting

T = TypeVar("T")

DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+aiosqlite"}

on_both = pytest.mark.parametrize("dialect", list(DRIVERS), indirect=True)
on_postgresql = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)


@pytest.fixture
def full(shop: Router) -> Iterator[Router]:
    """A shop with four customers, whose engines wait by asyncio."""
    with shop.sessionmaker().begin() as session:
        session.add_all(Customer(id=key, name=f"c{key}") for key in range(4))
    plain = dict(shop.engines)
    shop.dispose()
    for name, engine in plain.items():
        url = make_url(engine.url).set(drivername=DRIVERS[engine.dialect.name])
        shop.engines._engines[name] = create_async_engine(url).sync_engine
        shop.engines._names[shop.engines[name]] = name
        driver.install(shop.engines[name], Workers())
    shop.wiring.bind_arguments.clear()
    yield shop
    for name, engine in plain.items():
        shop.engines._engines[name] = engine


def run(router: Router, work: Callable[[RoutingSession], T]) -> T:
    """Let `work` use a session below asyncio."""
    return asyncio.run(spawned(router, work))


async def spawned(router: Router, work: Callable[[RoutingSession], T]) -> T:
    """Let `work` use a session in a greenlet, and dispose the engines of this event loop."""

    def call() -> T:
        with router.sessionmaker()() as session:
            return work(session)

    try:
        return await greenlet_spawn(call)
    finally:
        await greenlet_spawn(router.dispose)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


def customers(session: RoutingSession) -> list[int]:
    """Read from every shard."""
    return sorted(session.scalars(select(Customer.id)))


@on_both
def test_every_shard(full: Router) -> None:
    """Rows of all shards; what is pending is seen on all of them."""

    def work(session: RoutingSession) -> list[int]:
        assert customers(session) == [0, 1, 2, 3]
        session.rollback()
        session.add_all(Customer(id=key, name="new") for key in (4, 5))
        return [one.id for one in session.scalars(select(Customer)).all()]

    assert sorted(run(full, work)) == [0, 1, 2, 3, 4, 5]
    assert run(full, customers) == [0, 1, 2, 3]


@on_both
def test_savepoints_and_events(full: Router) -> None:
    """Enlisting a connection is not disturbed by the other shard."""
    seen: list[int] = []

    def begun(session: object, transaction: object, connection: Any) -> None:
        seen.append(connection.scalar(text("SELECT 7")))

    def work(session: RoutingSession) -> list[int]:
        event.listen(session, "after_begin", begun)
        with session.begin_nested():
            customers(session)
        return customers(session)

    assert run(full, work) == [0, 1, 2, 3]
    assert set(seen) == {7}


@on_postgresql
def test_statements_overlap(full: Router) -> None:
    """Both shards are asked before either has answered."""

    async def main() -> list[int]:
        with locked(full, *SHARDS):
            task = asyncio.create_task(spawned(full, customers))
            await until(lambda: all(waiting(full, name) for name in SHARDS))
        return await task

    assert asyncio.run(main()) == [0, 1, 2, 3]


@on_postgresql
def test_an_error_cancels_the_others_and_names_the_shard(full: Router) -> None:
    """Its type is kept; a shard that would wait forever is not waited for."""
    with beside(full, "d1") as connection:
        connection.execute(text("ALTER TABLE customers RENAME TO elsewhere"))
        connection.commit()

    def work(session: RoutingSession) -> list[int]:
        with (
            locked(full, "d0"),
            pytest.raises(ProgrammingError, match=r"on shard shop/s1, database d1"),
        ):
            customers(session)
        assert waiting(full, "d0") == 0
        session.rollback()
        with beside(full, "d1") as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO customers"))
            connection.commit()
        return customers(session)

    assert run(full, work) == [0, 1, 2, 3]


@on_postgresql
def test_a_shard_that_does_not_answer_in_time(full: Router) -> None:
    """The error names it; the session can be rolled back and used again."""
    limited = select(Customer.id).execution_options(shard_timeout=0.5)

    def work(session: RoutingSession) -> list[int]:
        with locked(full, "d0"), pytest.raises(ShardUnavailableError, match=r"R502 .* shop/s0"):
            session.scalars(limited)
        assert waiting(full, "d0") == 0
        session.rollback()
        return sorted(session.scalars(limited))

    assert run(full, work) == [0, 1, 2, 3]


@on_postgresql
def test_cancelled_from_outside(full: Router) -> None:
    """Every shard's statement is cancelled with the task."""

    async def main() -> None:
        with locked(full, *SHARDS):
            task = asyncio.create_task(spawned(full, customers))
            await until(lambda: all(waiting(full, name) for name in SHARDS))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            await until(lambda: not any(waiting(full, name) for name in SHARDS))

    asyncio.run(main())
    assert run(full, customers) == [0, 1, 2, 3]


@on_both
def test_cancelled_while_connecting(full: Router) -> None:
    """A connection that was being opened is closed when its task is cancelled."""
    opened, closed = [], []
    engine = full.engines["d0"]

    def connected(connection: Any, _: object) -> None:
        opened.append(connection)
        await_only(asyncio.sleep(0.2))

    event.listen(engine, "connect", connected)
    event.listen(engine, "close", lambda connection, _: closed.append(connection))

    async def main() -> None:
        task = asyncio.create_task(spawned(full, customers))
        await until(lambda: bool(opened))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert closed == opened
    assert run(full, customers) == [0, 1, 2, 3]


@on_both
def test_a_connection_that_never_comes(full: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that was cancelled does not wait for it for long."""
    monkeypatch.setattr(colour, "GRACE_SECONDS", 0.1)
    begun = asyncio.Event()

    def connect(*_: object) -> None:
        begun.set()
        await_only(asyncio.Event().wait())

    event.listen(full.engines["d0"], "do_connect", connect)

    async def main() -> None:
        task = asyncio.create_task(spawned(full, customers))
        await begun.wait()
        task.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
