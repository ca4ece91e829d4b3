"""Asyncio sessions: what they write and read, on each kind of database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncAttrs,
    AsyncSession,
    async_object_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.ext.asyncio.exc import AsyncMethodRequired
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from router import AsyncRoutingSession, CrossShardError, Router, RoutingError, on_shard
from router.testing import forbid_scatter, record
from tests.conftest import MakeDatabases
from tests.session.conftest import watch
from tests.session.shop import Account, Country, Customer, Note, Order, Tag, open_router

Main = Callable[[Router], Awaitable[None]]


def run(router: Router, main: Main) -> None:
    """Run `main` in an event loop of its own, and close every connection in it."""

    async def whole() -> None:
        async with router:
            await main(router)

    asyncio.run(whole())


async def fill(router: Router) -> None:
    """Add six customers with two orders each, a note of the same id for each, and others."""
    async with router.async_sessionmaker().begin() as session:
        session.add_all([Country(id=1, name="DE"), Tag(id=1), Account(id=1, name="a")])
        for key in range(6):
            orders = [Order(number=number, total=10 * key + number) for number in (1, 2)]
            session.add(Customer(id=key, name=f"c{key}", country_id=1, orders=orders))
            session.add(Note(id=1 if key < 2 else key, customer_id=key, text=f"n{key}"))


def counts(router: Router) -> dict[str, int]:
    """Return how many customers each shard has."""
    found = {}
    for name in list(router.engines)[1:]:
        with router.engines[name].connect() as connection:
            query = text("SELECT count(*) FROM customers")
            found[name] = connection.execute(query).scalar_one()
    return found


def test_a_flush_writes_in_batches_per_shard(shop: Router) -> None:
    """As many statements as the synchronous session sends, each to its own database."""

    async def main(router: Router) -> None:
        sent = watch(router.async_side.wiring)  # type: ignore[arg-type]
        async with router.async_sessionmaker().begin() as session:
            session.add_all(Customer(id=key, name="c") for key in range(10))
            session.add(Account(name="a"))
        assert sent.count("INSERT") == {"main": 1, "d0": 1, "d1": 1}
        async with router.async_sessionmaker().begin() as session:
            for customer in await session.scalars(select(Customer)):
                customer.name = "changed"
        assert sent.count("UPDATE") == {"d0": 1, "d1": 1}
        assert counts(router) == {"d0": 5, "d1": 5}

    run(shop, main)


def test_reading(shop: Router) -> None:
    """One shard, several, merged, gathered: the same planner and merge."""

    async def main(router: Router) -> None:
        await fill(router)
        async with router.async_sessionmaker()() as session:
            one = await session.execute(select(Order.total).where(Order.customer_id == 3))
            assert sorted(one.scalars()) == [31, 32]
            every = await session.scalars(select(Customer.id))
            assert sorted(every) == list(range(6))
            last = select(Order).order_by(Order.total.desc()).limit(3)
            assert [order.total for order in await session.scalars(last)] == [52, 51, 42]
            assert await session.scalar(select(func.sum(Order.total))) == 318
            pairs = select(Customer.id, Note.id).join(Note, Note.id == Customer.id)
            found = await session.execute(pairs.order_by(Customer.id, Note.id))
            assert [tuple(row) for row in found] == [(1, 1), (1, 1), *((n, n) for n in range(2, 6))]
            assert await session.scalar(select(Account.name)) == "a"
            assert len((await session.scalars(select(Country))).all()) == 1

    run(shop, main)


def test_streaming(shop: Router) -> None:
    """Rows come as they are asked for, from one shard, from several, and merged."""

    async def main(router: Router) -> None:
        await fill(router)
        async with router.async_sessionmaker()() as session:
            one = await session.stream_scalars(select(Order).where(Order.customer_id == 3))
            assert sorted([order.total async for order in one]) == [31, 32]
            every = select(Customer).execution_options(yield_per=2)
            many = await session.stream_scalars(every)
            assert sorted([customer.id async for customer in many]) == list(range(6))
            result = await session.stream(select(Order.total).order_by(Order.total))
            assert (await result.first()) == (1,)
            result = await session.stream(select(Order.total).order_by(Order.total))
            assert [row.total async for row in result.yield_per(2)][-2:] == [51, 52]
            await _leave_early(session)
            assert await session.scalar(select(func.count()).select_from(Customer)) == 6

    run(shop, main)


async def _leave_early(session: AsyncSession) -> None:
    for statement in (select(Customer.id), select(Customer.id).order_by(Customer.id)):
        result = await session.stream(statement.execution_options(yield_per=1))
        async for _ in result:
            break
        await result.close()


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_a_server_side_cursor_is_streamed(shop: Router) -> None:
    """`execute()` refuses it as with any `AsyncSession`, on several shards, too."""

    async def main(router: Router) -> None:
        await fill(router)
        options: dict[str, Any] = {"stream_results": True}
        async with router.async_sessionmaker()() as session:
            for statement in (
                select(Customer).where(Customer.id == 1),
                select(Customer).order_by(Customer.id),
            ):
                with pytest.raises(AsyncMethodRequired):
                    await session.execute(statement, execution_options=options)

    run(shop, main)


def test_objects(shop: Router) -> None:
    """`get`, `merge`, `refresh`, `delete`, and identities of rows that carry their shard."""

    async def main(router: Router) -> None:
        await fill(router)
        async with router.async_sessionmaker()() as session:
            customer = await session.get_one(Customer, 3)
            assert await session.get(Customer, 3) is customer
            assert await session.get(Customer, 99) is None
            merged = await session.merge(Customer(id=3, name="merged"))
            assert merged is customer
            await session.commit()
            await session.refresh(customer, ["name"])
            assert customer.name == "merged"
            notes = (await session.scalars(select(Note).where(Note.id == 1))).all()
            assert {note.text for note in notes} == {"n0", "n1"}
            with pytest.raises(CrossShardError, match="R306"):
                await session.get(Note, 1)
            note = await session.get_one(Note, 1, bind_arguments={"shard": "shop/s1"})
            assert inspect(note).identity_token == "shop/s1"
            await session.delete(await session.get_one(Note, 3))
            await session.flush()
            await session.delete(await session.get_one(Customer, 3, options=_with_all()))
            await session.commit()
            assert async_object_session(note) is session
        assert counts(router) == {"d0": 3, "d1": 2}

    run(shop, main)


def _with_all() -> list[Any]:
    return [selectinload(Customer.orders), selectinload(Customer.notes)]


def test_saying_where(shop: Router) -> None:
    """Hints, bind arguments and partitions; connections; engines by name, key and mapper."""

    async def main(router: Router) -> None:
        await fill(router)
        async with router.async_sessionmaker()() as session:
            query = select(Customer.id).order_by(Customer.id)
            assert list(await session.scalars(query.options(on_shard("shop/s1")))) == [1, 3, 5]
            count = text("SELECT count(*) FROM orders")
            where = {"keyspace": "shop", "shard_key": 4}
            assert await session.scalar(count, bind_arguments=where) == 6
            with session.partition(4, keyspace="shop"):
                assert list(await session.scalars(query)) == [0, 2, 4]
                with pytest.raises(RoutingError, match="R208"):
                    await session.get(Account, 1)
            async with session.partition(3, keyspace="shop"):
                assert list(await session.scalars(query)) == [1, 3, 5]
            with pytest.raises(RoutingError, match="R204"):
                session.partition("3", keyspace="shop")
            connection = await session.connection(bind_arguments={"shard": "shop/s1"})
            assert (await connection.execute(count)).scalar_one() == 6
            assert session.get_bind(Account) is router.async_engines["main"].sync_engine
            engine = router.async_engines["d1"]
            assert connection.engine.sync_engine is engine.sync_engine
            if hasattr(AsyncSession, "get_async_bind"):
                assert session.get_async_bind(Account) is router.async_engines["main"]
                assert session.get_async_bind(shard="shop/s1") is engine

    run(shop, main)


def test_writing_by_statement(shop: Router) -> None:
    """INSERT, UPDATE and DELETE by key; writes to reference tables reach every copy."""

    async def main(router: Router) -> None:
        await fill(router)
        async with router.async_sessionmaker().begin() as session:
            await session.execute(insert(Customer).values(id=7, name="new"))
            renamed = update(Customer).where(Customer.id == 7).values(name="renamed")
            await session.execute(renamed)
            await session.execute(delete(Order).where(Order.customer_id == 0))
            await session.execute(insert(Tag).values(id=2))
            session.add_all([Tag(id=3), Country(id=2, name="FR")])
        copies = []
        for name in ("d0", "d1"):
            async with router.async_engines[name].connect() as connection:
                assert list(await connection.scalars(select(Tag.id).order_by(Tag.id))) == [1, 2, 3]
                countries = await connection.execute(select(Country.__table__).order_by("id"))
                copies.append([tuple(row) for row in countries])
        assert len(copies[0]) == 2
        assert copies[0] == copies[1]
        async with router.async_sessionmaker()() as session:
            assert (await session.get_one(Customer, 7)).name == "renamed"
            assert await session.scalar(select(func.count()).select_from(Order)) == 10

    run(shop, main)


def test_run_sync(shop: Router) -> None:
    """Synchronous code gets the session that routes, bulk operations and queries with it."""

    async def main(router: Router) -> None:
        await fill(router)
        async with router.async_sessionmaker()() as session:

            def work(below: Any) -> list[int]:
                assert below is session.sync_session
                below.bulk_insert_mappings(Customer, [{"id": 8, "name": "bulk"}])
                lazy = below.get_one(Customer, 5).orders
                return [*sorted(order.total for order in lazy), below.query(Customer).count()]

            assert await session.run_sync(work) == [51, 52, 7]

    run(shop, main)


def test_statements_are_recorded(lite: Router) -> None:
    """The recorder for users' tests sees asyncio sessions, given one or their router."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            for given in (session, router):
                with record(given) as touched:
                    await session.scalars(select(Customer).where(Customer.id == 4))
                assert touched.databases == ("d1",)
            with pytest.raises(AssertionError), forbid_scatter(session):
                await session.scalars(select(Customer))

    run(lite, main)


# -- loading ------------------------------------------------------------------------------------


class Base(AsyncAttrs, DeclarativeBase):
    """Base of models with attributes that can be awaited."""


class Author(Base):
    """The primary key is the shard key."""

    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    """The primary key does not contain the shard key."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def library(urls: list[str]) -> Router:
    """Return a router over authors and their books."""
    data = {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            "all": {
                "shards": {f"s{number}": f"d{number}" for number in range(len(urls))},
                "sharding": {"function": "modulo"},
                "tables": {"authors": "id", "books": "author_id"},
            }
        },
        "transactions": {"two_phase": not urls[0].startswith("sqlite")},
    }
    router = Router.from_dict(data, metadata=Base.metadata)
    router.create_all()
    return router


def test_awaitable_attributes(urls: list[str]) -> None:
    """Lazy loads and expired attributes come from the shard of their object."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker().begin() as session:
            session.add_all(Author(id=key, books=[Book(id=1)]) for key in range(4) if key < 2)
            session.add_all(Author(id=key, books=[Book(id=key)]) for key in (2, 3))
        async with router.async_sessionmaker()() as session:
            authors = (await session.scalars(select(Author).order_by(Author.id))).all()
            sent = watch(router.async_side.wiring)  # type: ignore[arg-type]
            for author in authors:
                books = await author.awaitable_attrs.books
                assert [book.author_id for book in books] == [author.id]
                assert await books[0].awaitable_attrs.author is author
            assert sent.count("SELECT") == {"d0": 2, "d1": 2}
            await session.commit()
            assert await authors[1].awaitable_attrs.id == 1

    run(library(urls), main)


# -- without a router ---------------------------------------------------------------------------


def test_without_a_router_it_is_an_async_session(make_databases: MakeDatabases) -> None:
    """Given a bind, or nothing at all; partitions need a router."""
    urls = make_databases("sqlite", 2)

    async def main(router: Router) -> None:
        engine = create_async_engine(urls[1].replace("pysqlite", "aiosqlite"))
        for session in (
            AsyncRoutingSession(engine),
            AsyncRoutingSession(bind=engine, router=router),
            AsyncRoutingSession(binds={Customer: engine}, router=router),
            async_sessionmaker(engine, class_=AsyncRoutingSession)(),
            router.async_sessionmaker(bind=engine)(),
        ):
            async with session:
                session.add(Customer(id=1, name="plain"))
                await session.flush()
                assert session.get_bind(Customer) is engine.sync_engine
                if hasattr(AsyncSession, "get_async_bind"):
                    assert session.get_async_bind(Customer) is engine
                assert [one.name for one in await session.scalars(select(Customer))] == ["plain"]
                with pytest.raises(RoutingError, match="R206"):
                    session.partition(1, keyspace="shop")
        await engine.dispose()

    run(open_router(urls), main)


def test_every_argument_passes_through(lite: Router) -> None:
    """Those of `async_sessionmaker`, of `AsyncSession` and of the session below."""

    class Own(AsyncRoutingSession):
        """A subclass of the user's."""

    async def main(router: Router) -> None:
        make = router.async_sessionmaker(
            class_=Own,
            expire_on_commit=False,
            autoflush=False,
            info={"a": 1},
            close_resets_only=False,
        )
        assert isinstance(make, async_sessionmaker)
        async with make() as session:
            assert isinstance(session, Own)
            below = session.sync_session
            assert (below.expire_on_commit, below.autoflush, below.info) == (False, False, {"a": 1})
            customer = Customer(id=1, name="c")
            session.add(customer)
            await session.commit()
            assert customer.name == "c"
            session.expunge_all()
            session.add(Customer(id=1, name="twice"))
            with pytest.raises(IntegrityError):
                await session.flush()
        async with AsyncRoutingSession(router=router) as session:
            assert (await session.get_one(Customer, 1)).name == "c"

    run(lite, main)
