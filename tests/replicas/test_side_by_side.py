"""Reads of several shards wait for their replicas side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from router.hooks.driver import set_pace
from router.lanes.pace import Fixed
from tests.replicas.conftest import OpenWorld
from tests.replicas.test_asyncio import run
from tests.replicas.world import NAMES, PRIMARY, World
from tests.session.shop import Account, Customer
from tests.support.processes import eventually

QUERIES = [
    select(Customer.name),
    select(Customer.name).order_by(Customer.id),
    select(func.count()).select_from(Customer).where(Customer.name == "new"),
]


class Waited:
    """Lets replicas go on as soon as those of both shards are waited for, and not before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._thread: Thread | None = None
        self.asked: set[str] = set()

    def listen(self, engines: Callable[[str], object]) -> None:
        """Note who is asked for its position."""
        for name in NAMES[1:]:
            for engine in engines(name):  # type: ignore[attr-defined]
                event.listen(engine, "before_cursor_execute", self._note(name))

    def _note(self, name: str) -> Callable[..., None]:
        def note(connection: object, cursor: object, sql: str, *rest: object) -> None:
            if "replay_lsn" not in sql and "gtid_slave_pos" not in sql:
                return
            self.asked.add(name)
            if len(self.asked) == 2 and self._thread is None:
                self._thread = Thread(target=self._world.resume)
                self._thread.start()

        return note

    def join(self) -> None:
        """Wait until the replicas have gone on."""
        if self._thread is not None:
            self._thread.join()


@pytest.fixture
def behind(open_world: OpenWorld) -> tuple[World, str]:
    """Replicas that are waited for, and a token that they have not come to."""
    world = open_world(max_lag=None, wait=20)
    with world.router.sessionmaker()() as session:
        for query in QUERIES:
            # What else has to be known of the shards, is.
            session.execute(query).all()
        session.rollback()
        world.pause()
        session.execute(update(Customer).values(name="new"))
        session.execute(update(Account).values(name="new"))
        session.commit()
        token = session.token()
    assert token is not None
    world.places()
    return world, token


@pytest.mark.parametrize("query", QUERIES, ids=["plain", "ordered", "aggregate"])
def test_threads(behind: tuple[World, str], query: object) -> None:
    """No shard is asked only after another one has answered."""
    world, token = behind
    for name in NAMES[1:]:
        for engine in world.router.replicas[name]:
            # As of servers that are so near that their answers are not waited for in threads.
            set_pace(engine, Fixed(waits=False))
    waited = Waited(world)
    waited.listen(lambda name: world.router.replicas[name])
    with world.router.sessionmaker()(after=token) as session:
        found = set(session.scalars(query))  # type: ignore[call-overload]
    assert found in ({"new"}, {2})
    assert waited.asked == {"d0", "d1"}
    assert PRIMARY not in world.numbers()
    waited.join()


def test_tasks(behind: tuple[World, str]) -> None:
    """The same below asyncio."""
    world, token = behind
    waited = Waited(world)
    engines = world.router.async_side.wiring.engines
    waited.listen(engines.replicas_of)

    async def work() -> None:
        async with world.router.async_sessionmaker()(after=token) as session:
            assert set(await session.scalars(QUERIES[0])) == {"new"}
            assert PRIMARY not in world.numbers()
        await asyncio.to_thread(waited.join)

    run(world, work())


def test_a_shard_that_fails(behind: tuple[World, str]) -> None:
    """One that waits meanwhile is stopped, and gives its connection back."""
    world, token = behind
    world.servers.resume(0)

    def broken(*rest: object) -> None:
        raise LookupError

    for engine in world.router.replicas["d1"]:
        event.listen(engine, "before_cursor_execute", broken)
    with world.router.sessionmaker()(after=token) as session:
        with pytest.raises(LookupError):
            session.scalars(QUERIES[0]).all()
        session.rollback()
    pools: list[Any] = [one.pool for name in NAMES for one in world.router.replicas[name]]
    # One that was being opened is closed when it is.
    assert eventually(lambda: not any(one.checkedout() for one in pools))
