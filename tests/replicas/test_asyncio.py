"""The same through asyncio: psycopg and aiomysql."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from router import AsyncRoutingSession, RoutingError
from tests.replicas.conftest import OpenWorld
from tests.replicas.world import NAMES, PRIMARY, World
from tests.session.shop import Account, Customer

NAME = select(Account.name)
MAIN = {"keyspace": "accounts"}


def run(world: World, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` in an event loop; close the connections in it."""
    engines = world.router.async_side.wiring.engines
    for name in NAMES:
        world.listen(engines[name], (name, PRIMARY))
        for number, engine in enumerate(engines.replicas_of(name)):
            world.listen(engine, (name, number))

    async def whole() -> None:
        async with world.router:
            await work

    asyncio.run(whole())


def checked_out(world: World) -> int:
    """Return how many connections to replicas are in use."""
    engines = world.router.async_side.wiring.engines
    pools: list[Any] = [one.pool for name in NAMES for one in engines.replicas_of(name)]
    return sum(one.checkedout() for one in pools)


def test_reads_and_writes(world: World) -> None:
    """One replica for a transaction, the primary after a write, one's own commits at once."""
    world.pause()

    async def work() -> None:
        async with world.router.async_sessionmaker()() as session:
            for _ in range(3):
                assert await session.scalar(NAME) == "old"
            numbers = world.numbers()
            assert len(numbers) == 1
            assert PRIMARY not in numbers
            await session.execute(update(Account).values(name="new"))
            assert await session.scalar(NAME) == "new"
            assert world.numbers() == {PRIMARY}
            await session.commit()
            assert await session.scalar(NAME) == "new"
            assert len((await session.scalars(select(Customer))).all()) == 2
            token = await session.token()
        async with AsyncRoutingSession(router=world.router, after=token) as session:
            assert await session.scalar(NAME) == "new"
        async with world.router.async_sessionmaker()() as session:
            assert await session.scalar(NAME) == "old"
            session.after(token)
            assert await session.scalar(NAME) == "new"
            with pytest.raises(RoutingError, match="R217"):
                session.after("nothing")
        assert checked_out(world) == 0

    run(world, work())


def test_roles(world: World) -> None:
    """Blocks, declared text, scoped sessions."""

    async def work() -> None:
        async with world.router.async_sessionmaker()() as session:
            with session.using(role="primary"):
                await session.scalar(NAME)
            assert world.numbers() == {PRIMARY}
            await session.rollback()
            with session.using(role="replica"), pytest.raises(DBAPIError):
                await session.execute(text("DELETE FROM accounts"), bind_arguments=MAIN)
            assert PRIMARY not in world.numbers()
        scoped = world.router.async_scoped_session()
        with scoped.using(role="primary"):
            await scoped.scalar(NAME)
        assert world.numbers() == {PRIMARY}
        assert await scoped.token() is None
        await scoped.remove()
        assert await scoped.scalar(NAME) == "old"
        assert PRIMARY not in world.numbers()
        await scoped.remove()

    run(world, work())


def test_lag(open_world: OpenWorld) -> None:
    """A replica that is not known to be near is not read; other tasks go on meanwhile."""
    world = open_world(max_lag=10, wait=0)

    async def work() -> None:
        async with world.router.async_sessionmaker()() as session:
            assert await session.scalar(NAME) == "old"
            assert PRIMARY not in world.numbers()

    run(world, work())
    world.pause()
    with world.router.sessionmaker().begin() as session:
        session.execute(update(Account).values(name="new"))
    now = world.standing().clock() + 11
    world.standing().clock = lambda: now

    async def later() -> None:
        async with world.router.async_sessionmaker()() as session:
            assert await session.scalar(NAME) == "new"

    run(world, later())


def test_an_outage(world: World) -> None:
    """The primary answers, and nothing is left open."""

    async def work() -> None:
        async with world.router.async_sessionmaker()() as session:
            await session.scalar(NAME)
            await session.rollback()
            world.cut()
            world.places()
            assert await session.scalar(NAME) == "old"
            assert len((await session.scalars(select(Customer))).all()) == 2
            assert world.places()[-1][1] is PRIMARY
        assert checked_out(world) == 0

    run(world, work())


def test_a_cancelled_task_gives_its_connections_back(open_world: OpenWorld) -> None:
    """Also one that waits for a replica, and one whose shards are being asked."""
    world = open_world(max_lag=None, wait=60)
    world.pause()
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name="new"))
        session.commit()
        token = session.token()
    sleep = "pg_sleep(60)" if world.servers.kind == "postgresql" else "sleep(60)"

    async def read(make: Any, statement: Any, **kw: Any) -> None:
        async with make(after=token) as session:
            await session.scalar(select(Customer.name).where(Customer.id == 0))
            with session.using(role="replica"):
                await session.execute(statement, **kw)

    async def work() -> None:
        make = world.router.async_sessionmaker()
        slow = text(f"SELECT {sleep}")
        for task in (
            asyncio.create_task(read(make, NAME)),
            asyncio.create_task(
                read(make, slow, bind_arguments={"keyspace": "shop", "shard_key": 0})
            ),
        ):
            done, _ = await asyncio.wait([task], timeout=1)
            assert not done
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert checked_out(world) == 0

    run(world, work())
