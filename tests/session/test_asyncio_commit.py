"""Asyncio sessions: commits over several databases, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from router import CrossShardError, Router
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act, Deed
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Customer, Order, open_router
from tests.session.test_asyncio import fill, run
from tests.session.test_commit import count, in_doubt, recording

NAMES = ("main", "d0", "d1")


@pytest.fixture
def mixed(make_databases: MakeDatabases) -> Iterator[Router]:
    """Accounts on MariaDB, the shop on two PostgreSQL databases."""
    urls = [*make_databases("mariadb", 1), *make_databases("postgresql", 2)]
    with open_router(urls) as router:
        yield router


def everywhere() -> list[Any]:
    """Return a row for each database."""
    return [Customer(id=0, name="c"), Customer(id=1, name="c"), Account(name="a")]


def test_several_writers_are_prepared_first(mixed: Router) -> None:
    """All of them before any commits; one writer alone commits plainly."""

    async def main(router: Router) -> None:
        with recording() as seen:
            async with router.async_sessionmaker().begin() as session:
                session.add_all(everywhere())
        deeds = ["record the decision", *["prepare"] * 2, "commit the decider", *["commit"] * 2]
        assert [deed for deed, _ in seen] == deeds
        assert count(router) == dict.fromkeys(NAMES, 1)
        with recording() as seen:
            async with router.async_sessionmaker()() as session:
                assert await session.scalar(select(func.count()).select_from(Customer)) == 2
                session.add(Account(name="b"))
                await session.commit()
        assert seen == []
        assert in_doubt(router) == []

    run(mixed, main)


@pytest.mark.parametrize("before", [False, True])
def test_savepoints_of_several_shards(shop: Router, *, before: bool) -> None:
    """One shard's is made while others wait for theirs, or already have it."""

    async def main(router: Router) -> None:
        await fill(router)
        async with router.async_sessionmaker()() as session:
            async with session.begin_nested() as savepoint:
                if before:
                    await session.get_one(Customer, 3)
                await session.execute(update(Order).values(total=1))
                await savepoint.rollback()
            assert await session.scalar(select(func.sum(Order.total))) == 318
            async with session.begin_nested():
                if before:
                    await session.get_one(Customer, 3)
                await session.execute(update(Order).values(total=1))
            assert await session.scalar(select(func.sum(Order.total))) == 12

    run(shop, main)


def test_savepoints_and_rollback(mixed: Router) -> None:
    """The rest of the transaction's API works over both kinds of server."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            session.add_all([Customer(id=0, name="c"), Account(name="a")])
            async with session.begin_nested():
                session.add_all([Customer(id=1, name="c"), Account(name="b")])
            savepoint = await session.begin_nested()
            session.add_all([Customer(id=2, name="c"), Account(name="c")])
            await session.flush()
            await savepoint.rollback()
            await session.commit()
            session.add_all([Customer(id=4, name="c"), Account(name="d")])
            await session.flush()
            await session.rollback()
            session.add_all([Customer(id=6, name="c"), Account(name="e")])
            await session.run_sync(lambda below: below.prepare())
            await session.commit()
        assert count(router) == {"main": 3, "d0": 2, "d1": 1}
        assert in_doubt(router) == []

    run(mixed, main)


def test_a_prepare_that_fails_rolls_back_everything(mixed: Router) -> None:
    """A deferred constraint is only found at PREPARE."""
    with mixed.engines["d1"].begin() as connection:
        connection.execute(text("CREATE TABLE seen (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        connection.execute(text("INSERT INTO seen VALUES (1)"))

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            session.add_all(everywhere())
            again = text("INSERT INTO seen VALUES (1)")
            await session.execute(again, bind_arguments={"shard": "shop/s1"})
            with pytest.raises(DBAPIError):
                await session.commit()
            await session.rollback()
            assert (await session.scalars(select(Account))).all() == []
        assert count(router) == dict.fromkeys(NAMES, 0)
        assert in_doubt(router) == []

    run(mixed, main)


def test_two_writers_of_sqlite_are_refused_beforehand(make_databases: MakeDatabases) -> None:
    """SQLite cannot be prepared, so the second writer is refused before it writes."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c")])
            with pytest.raises(CrossShardError, match="R401"):
                await session.commit()
        assert count(router) == dict.fromkeys(NAMES, 0)

    run(open_router(make_databases("sqlite", 3), transactions={"two_phase": True}), main)


# -- cancelled ----------------------------------------------------------------------------------


async def plain(session: AsyncSession) -> None:
    """Commit by the method."""
    async with session:
        session.add_all(everywhere())
        await session.commit()


async def in_context(session: AsyncSession) -> None:
    """Commit at the end of a context."""
    async with session, session.begin():
        session.add_all(everywhere())


async def below(session: AsyncSession) -> None:
    """Commit in synchronous code."""

    def work(sync: Any) -> None:
        sync.add_all(everywhere())
        sync.commit()

    async with session:
        await session.run_sync(work)


Work = Callable[[AsyncSession], Any]
WORKS = pytest.mark.parametrize("work", [plain, in_context, below], ids=lambda work: work.__name__)


async def cancelled_at(router: Router, work: Work, moment: Moment, deed: Deed, at: int = 1) -> None:
    """Run `work` in a task that is cancelled at the moment `at` of its kind."""
    task = asyncio.ensure_future(work(router.async_sessionmaker()()))
    heard = []

    def cancel(now: Moment, act: Act) -> None:
        if (now, act.deed) == (moment, deed):
            heard.append(act)
            if len(heard) == at:
                task.cancel()

    with probing(cancel), pytest.raises(asyncio.CancelledError):
        await task
    assert len(heard) >= at


async def cancelled_by(router: Router, name: str, work: Work) -> None:
    """Run `work` in a task that is cancelled by the first event `name` of an engine."""
    task = asyncio.ensure_future(work(router.async_sessionmaker()()))
    for engine in router.async_engines.values():
        event.listen(engine.sync_engine, name, lambda *_: task.cancel(), once=True)
    with pytest.raises(asyncio.CancelledError):
        await task


async def is_unharmed(router: Router) -> bool:
    """Use every database for a commit, and return whether that works and nothing is left."""
    async with router.async_sessionmaker()() as session:
        for number, row in enumerate(everywhere()):
            row.id = 100 + number
            session.add(row)
        await session.flush()
        await session.rollback()
    pools: list[Any] = [engine.sync_engine.pool for engine in router.async_engines.values()]
    return all(pool.checkedout() == 0 for pool in pools) and in_doubt(router) == []


MOMENTS = pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.value)
DEEDS = [
    (Deed.RECORD, 1),
    (Deed.PREPARE, 1),
    (Deed.PREPARE, 2),
    (Deed.DECIDE, 1),
    (Deed.COMMIT, 1),
    (Deed.COMMIT, 2),
]


@MOMENTS
@pytest.mark.parametrize(("deed", "at"), DEEDS)
@WORKS
def test_cancelled_while_it_commits(
    mixed: Router, work: Work, deed: Deed, at: int, moment: Moment
) -> None:
    """All of it is committed or nothing, and nothing stays prepared."""

    async def main(router: Router) -> None:
        await cancelled_at(router, work, moment, deed, at)
        assert count(router) in (dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 1))
        assert await is_unharmed(router)

    run(mixed, main)


@WORKS
def test_cancelled_between_commits_without_two_phase(
    make_databases: MakeDatabases, work: Work
) -> None:
    """Also where databases commit one after another, a cancelled task does not stop half-way."""

    async def main(router: Router) -> None:
        await cancelled_by(router, "commit", work)
        assert count(router) == dict.fromkeys(NAMES, 1)

    run(open_router(make_databases("sqlite", 3)), main)


SLEEP = {"postgresql": "SELECT pg_sleep(600)", "mariadb": "SELECT SLEEP(600)"}


@pytest.mark.parametrize("dialect", list(SLEEP), indirect=True)
def test_cancelled_while_a_statement_runs(shop: Router, dialect: str) -> None:
    """Its rows are rolled back and its locks released; others go on with the same pools."""
    started = asyncio.Event()

    async def work(router: Router) -> None:
        async with router.async_sessionmaker().begin() as session:
            session.add_all(everywhere())
            await session.flush()
            await session.execute(text(SLEEP[dialect]), bind_arguments={"shard": "shop/s1"})

    def note(connection: object, cursor: object, sql: str, *rest: object) -> None:
        if sql == SLEEP[dialect]:
            started.set()

    async def main(router: Router) -> None:
        event.listen(router.async_engines["d1"].sync_engine, "before_cursor_execute", note)
        task = asyncio.create_task(work(router))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with router.async_sessionmaker().begin() as session:
            session.add_all([Customer(id=0, name="other"), Account(name="other")])
        assert count(router) == {"main": 1, "d0": 1, "d1": 0}

    run(shop, main)


def test_a_scatter_that_is_cancelled(shop: Router) -> None:
    """The reads of all shards end, and their connections go back to the pools."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker().begin() as session:
            session.add_all(Customer(id=key, name="c") for key in range(4))
        for name in ("d0", "d1"):
            engine = router.async_engines[name].sync_engine

            async def work() -> None:
                async with router.async_sessionmaker()() as session:
                    await session.execute(select(Customer))

            task = asyncio.ensure_future(work())
            event.listen(
                engine, "before_cursor_execute", lambda *_, task=task: task.cancel(), once=True
            )
            with pytest.raises(asyncio.CancelledError):
                await task
        async with router.async_sessionmaker()() as session:
            assert len((await session.scalars(select(Customer))).all()) == 4
        pools: list[Any] = [engine.sync_engine.pool for engine in router.async_engines.values()]
        assert [pool.checkedout() for pool in pools] == [0, 0, 0]

    run(shop, main)


# -- side by side -------------------------------------------------------------------------------


def test_many_tasks(shop: Router) -> None:
    """Each with a session of its own, more of them than a pool has connections."""

    async def work(make: Any, number: int) -> None:
        async with make.begin() as session:
            session.add(Customer(id=number, name=f"c{number}"))
        async with make.begin() as session:
            customer = await session.get_one(Customer, number)
            customer.name += "!"
            session.add(Account(name=f"a{number}"))

    async def main(router: Router) -> None:
        make = router.async_sessionmaker()
        async with asyncio.TaskGroup() as group:
            for number in range(24):
                group.create_task(work(make, number))
        async with make() as session:
            names = set(await session.scalars(select(Customer.name)))
            assert names == {f"c{number}!" for number in range(24)}
        assert count(router) == {"main": 24, "d0": 12, "d1": 12}

    run(shop, main)
