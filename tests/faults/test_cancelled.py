"""Sessions of asyncio are cancelled wherever they wait: nothing leaks, and nothing is half done."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import func, select

from router import AsyncRoutingSession
from router.deadlocks import watch
from tests.faults.awaits import Awaits
from tests.faults.deeds import (
    KEEPING,
    LEAVING,
    READS,
    Doing,
    change,
    commit,
    fan_out,
    flush,
    merge,
    prepare,
    savepoints,
)
from tests.faults.scenes import BrokenError
from tests.faults.sights import KEPT, KINDS, World, Worlds, eventually
from tests.session.shop import Customer
from tests.support.databases import MakeDatabases

WHOLE = os.environ.get("ROUTER_FAULTS") == "all"
"""Whether to cancel at every moment, which takes minutes, and not only at some."""

SHARE = 6
LONG_AFTER = 5
"""How many moments later somebody is stopped for the second time who has begun to clean up."""

NOBODY = [0, 0, 0]

pytestmark = pytest.mark.filterwarnings(
    # What psycopg says of any cursor of the server whose connection SQLAlchemy has cut.
    "ignore:.*AsyncServerCursor.*:ResourceWarning",
    # What becomes of its pipeline when it has closed a connection that was interrupted twice.
    "ignore:.*BasePipeline._exit_gen:pytest.PytestUnraisableExceptionWarning",
)

WORLDS = pytest.mark.parametrize("world", list(KINDS), indirect=True)


class Outcome(Enum):
    """What a caller was told."""

    DONE = "done"
    CANCELLED = "cancelled"


@pytest.fixture(scope="module")
def worlds(make_module_databases: MakeDatabases) -> Iterator[Worlds]:
    """Shops over all kinds of databases."""
    with ExitStack() as stack:
        yield Worlds(make_module_databases, stack)


@pytest.fixture
def world(request: pytest.FixtureRequest, worlds: Worlds) -> World:
    """A shop, with the tests that went before."""
    return worlds.of(request.param)


class Trial:
    """One deed, done again and again, each time stopped at another moment."""

    def __init__(self, world: World, doing: Doing, stop: Stop) -> None:
        self.world = world
        self.doing = doing
        self.stop = stop
        self.awaits = Awaits()
        self.faults: list[Any] = []
        handle = lambda _, context: self.faults.append(context)  # noqa: E731
        asyncio.get_running_loop().set_exception_handler(handle)

    async def go(self, moments: Sequence[int]) -> int:
        """Do it once, stopped at `moments`; return how many there were."""
        key = self.world.begin()
        session = self.world.router.async_sessionmaker()()
        closes = moments[0] % 2 == 0
        outcome = await self.stop(self, lambda: self._body(session, key, closes), moments)
        count = self.awaits.disarm()
        # The end of `async with` goes on closing the session in a task of its own.
        ours = asyncio.current_task()
        assert await eventually(lambda: asyncio.all_tasks() == {ours}), asyncio.all_tasks()
        if not closes:
            await session.rollback()
            kept = select(func.count()).select_from(Customer).where(Customer.id < len(KEPT))
            assert await session.scalar(kept) == len(KEPT)
        await session.close()
        where = f"{self.doing.__name__} stopped at {moments} of {count}, {outcome}"
        await self._check_connections(where)
        self._check_rows(key, outcome, where)
        return count

    async def _body(self, session: AsyncRoutingSession, key: int, closes: bool) -> None:
        if closes:
            async with session:
                await self.doing(session, key)
        else:
            await self.doing(session, key)

    async def _check_connections(self, where: str) -> None:
        world, ours = self.world, asyncio.current_task()
        assert await eventually(lambda: asyncio.all_tasks() == {ours}), (where, asyncio.all_tasks())
        assert world.checked_out() == NOBODY, where
        assert await eventually(lambda: world.strangers() == NOBODY), (where, world.strangers())
        assert world.dangling() == [], where
        assert await eventually(lambda: not world.locks()), (where, world.locks())
        assert self.faults == [], where

    def _check_rows(self, key: int, outcome: Outcome, where: str) -> None:
        written, names = self.world.written(key), self.world.names()
        assert len(set(written)) == 1, (where, written)
        assert len(names) == 1, (where, names)
        assert "wrong" not in names
        if self.doing not in KEEPING:
            assert not any(written), where
        elif outcome is Outcome.DONE:
            assert all(written), where
        if self.doing is change:
            assert (f"m{key}" in names) == all(written), where


# -- how it is stopped --------------------------------------------------------------------------

Stop = Callable[[Trial, Callable[[], Awaitable[None]], Sequence[int]], Awaitable[Outcome]]


async def by_cancelling(
    trial: Trial, body: Callable[[], Awaitable[None]], moments: Sequence[int]
) -> Outcome:
    """Cancel the task."""
    task = asyncio.ensure_future(body())
    trial.awaits.arm(moments, task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        return Outcome.CANCELLED
    task.result()
    # Nobody may take it for something of his own.
    assert trial.awaits.count < moments[0]
    return Outcome.DONE


async def by_timeout(
    trial: Trial, body: Callable[[], Awaitable[None]], moments: Sequence[int]
) -> Outcome:
    """Let its time be over."""
    try:
        async with asyncio.timeout(None) as limit:
            trial.awaits.arm(moments, lambda: limit.expired() or limit.reschedule(0))
            await body()
    except TimeoutError:
        assert limit.expired()
        return Outcome.CANCELLED
    finally:
        trial.awaits.disarm()
        task: Any = asyncio.current_task()
        assert task.cancelling() == 0
    return Outcome.DONE


async def by_a_sibling(
    trial: Trial, body: Callable[[], Awaitable[None]], moments: Sequence[int]
) -> Outcome:
    """Let another task of its group fail."""
    over = asyncio.Event()
    outcome = Outcome.CANCELLED

    async def fail() -> None:
        await over.wait()
        raise BrokenError

    async def do() -> None:
        nonlocal outcome
        await body()
        outcome = Outcome.DONE
        over.set()

    trial.awaits.arm(moments, over.set)
    errors: Sequence[BaseException] = ()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(do())
    except ExceptionGroup as found:
        errors = found.exceptions
    assert [type(one) for one in errors] == [BrokenError]
    return outcome


# -- the tests ----------------------------------------------------------------------------------


def run(world: World, doing: Doing, stop: Stop, *, cold: bool = False, again: int = 0) -> None:
    """Do it, stopped at each moment, or at some; with `again`, once more so many moments later."""

    async def main() -> None:
        async with world.router:
            trial = Trial(world, doing, stop)
            never = 10**9
            # The first time, everything is learned that is to be known about the databases.
            await trial.go([never])
            whole = await trial.go([never])
            at = 1
            while at <= whole:
                if cold:
                    await world.router.aclose()
                count = await trial.go([at, at + again] if again else [at])
                whole = max(whole, count) if WHOLE else whole
                at = _next(at, whole)
            gc.collect()
            await asyncio.sleep(0)
            assert trial.faults == []

    asyncio.run(main())


def _next(at: int, whole: int) -> int:
    if WHOLE or at == whole:
        return at + 1
    return min(at + SHARE, whole)


def named(doing: Any) -> str:
    """Return what a test is called by."""
    return str(getattr(doing, "__name__", doing))


def everything() -> Iterator[Any]:
    """Yield each deed in each world."""
    for name in KINDS:
        for doing in (*READS, *LEAVING, *KEEPING):
            # SQLite cannot be prepared; and it commits when the savepoint that began its
            # transaction is released, unless the application sees to it, as SQLAlchemy says.
            if name != "sqlite" or doing not in (prepare, savepoints):
                yield pytest.param(doing, name, id=f"{doing.__name__}-{name}")


@pytest.mark.parametrize(("doing", "world"), list(everything()), indirect=["world"])
def test_cancelled(world: World, doing: Doing) -> None:
    """It is all there or nothing is, and every connection comes back."""
    run(world, doing, by_cancelling)


@WORLDS
@pytest.mark.parametrize("doing", [fan_out, merge, flush, commit], ids=named)
def test_cancelled_while_connections_are_new(world: World, doing: Doing) -> None:
    """Also while they are opened and databases are asked who they are."""
    run(world, doing, by_cancelling, cold=True)


@WORLDS
@pytest.mark.parametrize("again", [1, 2, 3, 5] if WHOLE else [1, 3])
@pytest.mark.parametrize("doing", [fan_out, flush, commit, change], ids=named)
def test_cancelled_twice(world: World, doing: Doing, again: int) -> None:
    """The second time while it cleans up."""
    run(world, doing, by_cancelling, again=again)


@pytest.mark.parametrize("world", ["postgresql", "sqlite-postgresql"], indirect=True)
@pytest.mark.parametrize("doing", [flush, change], ids=named)
def test_cancelled_while_somebody_looks(
    world: World, doing: Doing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that looks for deadlocks sees connections in every state that they pass."""
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0.0005)
    run(world, doing, by_cancelling, again=LONG_AFTER)


@WORLDS
@pytest.mark.parametrize("stop", [by_timeout, by_a_sibling], ids=named)
@pytest.mark.parametrize("doing", [merge, commit], ids=named)
def test_stopped_by_others(world: World, doing: Doing, stop: Stop) -> None:
    """By a time limit, or a group of tasks, which are told what they expect."""
    run(world, doing, stop)
