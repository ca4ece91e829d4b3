"""Replicas that take connections and answer nothing, while shards have a limited time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select

from router import ShardUnavailableError
from router.engines import REPLICA_CONNECT_TIMEOUT
from tests.replicas.conftest import OpenWorld
from tests.replicas.test_asyncio import run
from tests.replicas.world import PRIMARY, World
from tests.session.shop import Customer
from tests.support.replicated import Replicated

QUERIES = {"plain": select(Customer), "merged": select(Customer).order_by(Customer.id)}
LIMITED = {"shard_timeout": 0.5}
PATIENT = {"shard_timeout": REPLICA_CONNECT_TIMEOUT - 0.5}
"""Enough for a primary on a busy machine, and too little to try a stuck replica first."""


@pytest.fixture(autouse=True)
def _cut(servers: Replicated, open_world: OpenWorld) -> Iterator[None]:
    """Nobody who still tries to connect at the end is to succeed."""
    del open_world
    yield
    servers.proxies[0].cut()


def stuck(open_world: OpenWorld, at: str) -> World:
    """Return a router whose replica is stuck when it is looked at, connected to, or read."""
    limit = {"max_lag": 10, "check_every": 0.0001} if at == "look" else {"max_lag": None}
    world = open_world(weights=(1,), retry_after=600, wait=0, **limit)
    with world.router.sessionmaker()() as session:
        for query in QUERIES.values():
            session.scalars(query).all()
    assert PRIMARY not in world.numbers()
    if at == "connect":
        for engines in world.router.replicas.values():
            engines[0].dispose()
    world.servers.proxies[0].stall()
    return world


@pytest.mark.parametrize(
    ("at", "query"),
    [("look", "plain"), ("connect", "plain"), ("connect", "merged")],
)
def test_threads(
    open_world: OpenWorld, caplog: pytest.LogCaptureFixture, at: str, query: str
) -> None:
    """One read is too late; those that follow are answered by the primary."""
    world = stuck(open_world, at)
    with caplog.at_level(logging.INFO, "router.replicas"):
        with world.router.sessionmaker()() as session, pytest.raises(ShardUnavailableError) as late:
            session.scalars(QUERIES[query], execution_options=LIMITED).all()
        assert late.value.id == "R502"
        world.places()
        for _ in range(2):
            with world.router.sessionmaker()() as session:
                assert len(session.scalars(QUERIES[query], execution_options=PATIENT).all()) == 2
        assert world.numbers() == {PRIMARY}
    assert [one.levelname for one in caplog.records] == ["WARNING"] * 2


@pytest.mark.parametrize("at", ["look", "connect", "read"])
def test_tasks(open_world: OpenWorld, at: str) -> None:
    """The same below asyncio."""
    world = stuck(open_world, at)
    world.servers.proxies[0].mend()

    async def read(**options: Any) -> None:
        async with world.router.async_sessionmaker()() as session:
            found = await session.scalars(QUERIES["plain"], execution_options=options)
            assert len(found.all()) == 2

    async def work() -> None:
        if at != "connect":
            await read()
            assert PRIMARY not in world.numbers()
        world.servers.proxies[0].stall()
        with pytest.raises(ShardUnavailableError, match="R502"):
            await read(**LIMITED)
        world.places()
        await read(**PATIENT)
        assert world.numbers() == {PRIMARY}

    run(world, work())


def test_a_shard_that_is_slow_itself(open_world: OpenWorld) -> None:
    """Another shard's failure says nothing of the replicas that were being read."""
    world = open_world(max_lag=None, weights=(1,))
    with world.router.sessionmaker()() as session, pytest.raises(LookupError):
        fail_beside(world, session)
    with world.router.sessionmaker()() as session:
        world.places()
        session.scalars(QUERIES["plain"]).all()
        assert PRIMARY not in world.numbers()


def fail_beside(world: World, session: Any) -> None:
    """Have one shard fail while the other one is asked."""

    def broken(*rest: object) -> None:
        raise LookupError

    engine = world.router.replicas["d1"][0]
    event.listen(engine, "before_cursor_execute", broken)
    try:
        session.scalars(QUERIES["plain"], execution_options={"shard_timeout": 60}).all()
    finally:
        event.remove(engine, "before_cursor_execute", broken)
