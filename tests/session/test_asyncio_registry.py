"""Asyncio sessions by scope, their partitions, directories, and forked workers."""

from __future__ import annotations

import asyncio
import os
from contextvars import ContextVar
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text
from sqlalchemy.ext.asyncio import async_scoped_session

from router import AsyncRoutingSession, Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Customer, Order, open_router
from tests.session.test_asyncio import run
from tests.session.test_directory_keyspace import directory, open_directory


def test_it_is_an_async_scoped_session(lite: Router) -> None:
    """With everything that one has: proxies, configure, remove."""

    async def main(router: Router) -> None:
        Session = router.async_scoped_session()
        assert isinstance(Session, async_scoped_session)
        assert isinstance(Session(), AsyncRoutingSession)
        Session.add(Customer(id=1, name="c"))
        await Session.commit()
        assert await Session.get(Customer, 1) is await Session().get(Customer, 1)
        await Session.remove()
        Session.configure(expire_on_commit=False)
        assert Session().sync_session.expire_on_commit is False
        await Session.remove()
        assert Session(autoflush=False).autoflush is False
        await Session.remove()
        assert Session.registry.registry == {}

    run(lite, main)


def test_one_session_for_each_task(lite: Router) -> None:
    """The same within a task, others in others, and their partitions, too."""

    async def main(router: Router) -> None:
        Session = router.async_scoped_session()
        barrier = asyncio.Barrier(3)

        async def work(number: int) -> list[int]:
            found = Session()
            assert found is Session()
            with Session.partition(number, keyspace="shop"):
                await barrier.wait()
                Session.add(Customer(id=number, name="c"))
                await Session.commit()
                await Session.remove()
                assert Session() is not found
                await barrier.wait()
                seen = list(await Session.scalars(select(Customer.id)))
            await Session.remove()
            return seen

        tasks = [asyncio.create_task(work(number)) for number in range(3)]
        assert await asyncio.gather(*tasks) == [[0], [1], [2]]
        assert Session.registry.registry == {}
        assert Session._pins.registry == {}

    run(lite, main)


def test_one_session_for_each_request(lite: Router) -> None:
    """With a context variable as the scope, tasks of one request share its partition."""
    request: ContextVar[int] = ContextVar("request")

    async def main(router: Router) -> None:
        Session = router.async_scoped_session(scopefunc=request.get)

        async def handle(number: int) -> None:
            request.set(number)
            with Session.partition(number, keyspace="shop"):
                await asyncio.create_task(store(number))
            await Session.remove()

        async def store(number: int) -> None:
            Session.add(Customer(id=number, name="c"))
            await Session.commit()
            with pytest.raises(RoutingError, match="R208"):
                await Session.scalars(select(Account))

        await asyncio.gather(*(handle(number) for number in range(6)))
        assert Session.registry.registry == {}
        async with router.async_sessionmaker()() as session:
            assert await session.scalar(select(func.count()).select_from(Customer)) == 6

    run(lite, main)


def test_partitions_are_entered_once_and_left(lite: Router) -> None:
    """Also by an error; the outer one of two on the same shard stays."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            partition = session.partition(1, keyspace="shop")

            async def fail() -> None:
                async with partition:
                    with session.partition(4, keyspace="shop"):
                        pass
                    with pytest.raises(RoutingError, match="R208"):
                        await session.get(Customer, 2)
                    with pytest.raises(RoutingError, match="R208"):
                        await partition.__aenter__()
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            assert await session.get(Customer, 2) is None

    run(lite, main)


# -- directories --------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb", "sqlite"], indirect=True)
def test_a_directory_is_asked_below_asyncio(dialect: str, make_databases: MakeDatabases) -> None:
    """Keys are placed by flushes and statements, and found by reads and partitions."""

    async def main(router: Router) -> None:
        make = router.async_sessionmaker()
        async with make.begin() as session:
            session.add_all(
                Customer(id=key, name="c", orders=[Order(number=1)]) for key in range(4)
            )
            await session.execute(insert(Customer).values(id=5, name="d"))
        assert directory(router) == {0: "s0", 1: "s1", 2: "s0", 3: "s1", 5: "s1"}
        async with make() as session:
            query = select(Customer.id).order_by(Customer.id)
            assert await session.get(Customer, 99) is None
            with pytest.raises(RoutingError, match="R210"), session.partition(3, keyspace="shop"):
                pass
            async with session.partition(3, keyspace="shop"):
                assert list(await session.scalars(query)) == [1, 3, 5]
                with session.sync_session.no_autoflush:
                    assert (await session.get_one(Customer, 5)).name == "d"
            async with session.partition(98, keyspace="shop"):
                assert list(await session.scalars(query)) == [0, 2]
            assert len(directory(router)) == 5
        Session = router.async_scoped_session()
        async with Session.partition(3, keyspace="shop"):
            assert list(await Session.scalars(query)) == [1, 3, 5]
        await Session.remove()

    run(open_directory(make_databases(dialect, 3)), main)


def test_many_tasks_place_keys(make_databases: MakeDatabases) -> None:
    """Tasks that meet at one key agree on its shard."""

    async def main(router: Router) -> None:
        make = router.async_sessionmaker()

        async def work(number: int) -> None:
            async with make.begin() as session:
                session.add(Order(customer_id=number % 4, number=number))

        async with make.begin() as session:
            session.add_all(Customer(id=key, name="c") for key in range(4))
        await asyncio.gather(*(work(number) for number in range(20)))
        async with make() as session:
            assert await session.scalar(select(func.count()).select_from(Order)) == 20
        assert len(directory(router)) == 4

    run(open_directory(make_databases("postgresql", 3)), main)


# -- forks and event loops ----------------------------------------------------------------------


async def backend(router: Router) -> int:
    """Return the server's number of the session's connection to one shard."""
    async with router.async_sessionmaker()() as session:
        number: int = await session.scalar(
            text("SELECT pg_backend_pid()"), bind_arguments={"shard": "shop/s1"}
        )
        return number


def test_one_event_loop_after_another(make_databases: MakeDatabases) -> None:
    """Connections that an ended loop has left in a pool are replaced by new ones."""
    router = open_router(make_databases("postgresql", 3))
    first = asyncio.run(backend(router))

    async def again() -> None:
        async with router:
            second = await backend(router)
            assert second != first
            assert await backend(router) == second

    asyncio.run(again())


def test_dispose_and_close(make_databases: MakeDatabases) -> None:
    """`dispose()` leaves what belongs to an event loop; `aclose()` closes everything."""

    async def main() -> None:
        router = open_router(make_databases("postgresql", 3))
        await router.aclose()
        first = await backend(router)
        router.dispose()
        assert await backend(router) == first
        await router.aclose()
        pools: list[Any] = [engine.sync_engine.pool for engine in router.async_engines.values()]
        assert sum(pool.checkedin() for pool in pools) == 0
        assert await backend(router) != first
        await router.aclose()

    asyncio.run(main())


def test_connections_in_use_are_closed_when_given_back(shop: Router) -> None:
    """What was begun before `aclose()` goes on; then no pool that nobody asks keeps it."""

    async def main(router: Router) -> None:
        open_now = list[object]()
        for engine in router.async_engines.values():
            event.listen(engine.sync_engine, "connect", lambda one, _: open_now.append(one))
            event.listen(engine.sync_engine, "close", lambda one, _: open_now.remove(one))
        async with router.async_sessionmaker()() as session:
            session.add_all([Customer(id=0, name="begun"), Customer(id=1, name="begun")])
            await session.flush()
            await router.aclose()
            assert len((await session.scalars(select(Customer))).all()) == 2
            assert len(open_now) == 2
        assert not open_now

    run(shop, main)


def test_a_router_that_was_never_asynchronous(lite: Router) -> None:
    """Closing it makes no asyncio engines."""

    async def main(router: Router) -> None:
        with router.sessionmaker()() as session:
            session.execute(text("SELECT 1"), bind_arguments={"shard": "shop/s1"})

    run(lite, main)
    assert lite._async_side == {}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_workers(make_databases: MakeDatabases) -> None:
    """A child has sessions and connections of its own; the parent's go on."""
    with open_router(make_databases("postgresql", 3)) as router:
        Session = router.async_scoped_session(scopefunc=lambda: 0)

        async def warm() -> int:
            Session.add(Customer(id=1, name="parent"))
            await Session.flush()
            return await backend(router)

        async def end() -> int:
            await Session.commit()
            await Session.remove()
            async with router:
                return await backend(router)

        with asyncio.Runner() as runner:
            mine = runner.run(warm())
            child = os.fork()
            if child == 0:
                _in_child(router, Session, mine)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert runner.run(end()) == mine
        with router.sessionmaker()() as session:
            assert sorted(session.scalars(select(Customer.id))) == [1, 3]


def _in_child(router: Router, registry: Any, parents: int) -> None:
    # Nothing of the parent's interpreter may run on after this, whatever happens.
    code = 1

    async def work() -> int:
        assert len(registry.identity_map) == 0
        registry.add(Customer(id=3, name="child"))
        await registry.commit()
        await registry.remove()
        async with router:
            return await backend(router)

    try:
        loop = asyncio.new_event_loop()
        code = 0 if loop.run_until_complete(work()) != parents else 2
        loop.close()
    finally:
        os._exit(code)
