"""Rows that a connection has not sent yet, when it is asked for something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Select, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import joinedload, selectinload

from router import Router, RoutingError, RoutingSession
from tests.conftest import MakeDatabases
from tests.session.shop import Customer, Order, open_router
from tests.session.test_asyncio import run

KEYS = range(24)

on_mariadb = pytest.mark.parametrize("full", ["mariadb"], indirect=True)


@pytest.fixture(params=["postgresql", "mariadb"])
def full(request: pytest.FixtureRequest, make_databases: MakeDatabases) -> Iterator[Router]:
    """Twelve customers on each of two shards, with an order each."""
    with open_router(make_databases(request.param, 3)) as router:
        with router.sessionmaker().begin() as session:
            for key in KEYS:
                session.add(Customer(id=key, name="c", orders=[Order(number=1)]))
        yield router


def streaming(*options: Any) -> Select[tuple[Customer]]:
    """Return all customers, three at a time."""
    return select(Customer).options(*options).execution_options(yield_per=3)


def drops_rows(router: Router) -> bool:
    """Return whether the driver would drop rows, rather than send them later."""
    return router.engines["d0"].dialect.driver == "pymysql"


@pytest.mark.parametrize("ordered", [False, True])
def test_a_load_while_rows_come(full: Router, *, ordered: bool) -> None:
    """Every customer, or a refusal; never some."""
    statement = streaming(selectinload(Customer.orders))
    statement = statement.order_by(Customer.id) if ordered else statement
    with full.sessionmaker()() as session:
        if drops_rows(full):
            with pytest.raises(RoutingError, match="R214"):
                session.scalars(statement).all()
        else:
            assert sorted(one.id for one in session.scalars(statement)) == list(KEYS)


def test_a_lazy_load_while_rows_come(full: Router) -> None:
    """Also of one shard alone."""
    statement = streaming().where(Customer.id.in_([0, 2, 4, 6, 8]))
    with full.sessionmaker()() as session, session.scalars(statement) as found:
        if drops_rows(full):
            with pytest.raises(RoutingError, match="R214"):
                [one.orders for one in found]
        else:
            assert len([one.orders for one in found]) == 5


def test_what_can_be_done(full: Router) -> None:
    """Loading by a join, and going on when a result is closed, has ended, or is forgotten."""
    with full.sessionmaker()() as session:
        loaded = session.scalars(streaming(joinedload(Customer.country)))
        assert sorted(one.id for one in loaded) == list(KEYS)
        with session.scalars(streaming()) as found:
            next(found)
        assert session.scalar(select(func.count()).select_from(Customer)) == len(KEYS)
        if drops_rows(full):
            # psycopg wants its cursors closed.
            for _ in session.scalars(streaming()):
                break
            assert session.scalar(select(func.count()).select_from(Customer)) == len(KEYS)


def prepared(session: RoutingSession) -> None:
    """Commit in two steps."""
    session.prepare()
    session.commit()


ENDS = {
    "commit": RoutingSession.commit,
    "prepare": prepared,
    "rollback": RoutingSession.rollback,
    "close": RoutingSession.close,
}


@pytest.mark.parametrize("keys", [(100,), (100, 101)], ids=["one", "two"])
@pytest.mark.parametrize("end", list(ENDS))
def test_the_end_of_a_transaction(full: Router, end: str, keys: tuple[int, ...]) -> None:
    """It ends as on one database; the rows are gone, and whoever wants them is told so."""
    with full.sessionmaker()() as session:
        session.add_all(Customer(id=key, name="new") for key in keys)
        session.flush()
        found = session.execute(select(Customer.id).execution_options(yield_per=3))
        next(found)
        ENDS[end](session)
        with pytest.raises((RoutingError, DBAPIError)):
            list(found)
        expected = {*KEYS, *(keys if end in ("commit", "prepare") else ())}
        assert set(session.scalars(select(Customer.id))) == expected


@on_mariadb
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_end_of_a_savepoint(full: Router, end: str) -> None:
    """Likewise."""
    with full.sessionmaker()() as session:
        savepoint = session.begin_nested()
        session.add_all(Customer(id=key, name="new") for key in (100, 101))
        session.flush()
        found = session.execute(select(Customer.id).execution_options(yield_per=3))
        next(found)
        getattr(savepoint, end)()
        with pytest.raises(RoutingError, match="R214"):
            list(found)
        session.commit()
        expected = {*KEYS, *((100, 101) if end == "commit" else ())}
        assert set(session.scalars(select(Customer.id))) == expected


@on_mariadb
def test_a_refusal_is_short(full: Router) -> None:
    """It shows how the statement begins, not all of it."""
    with full.sessionmaker()() as session, session.scalars(streaming()) as found:
        next(found)
        with pytest.raises(RoutingError, match="R214") as caught:
            session.execute(select(Order))
    assert len(caught.value.what) < 120
    assert "by SELECT orders.customer_id" in caught.value.what


def test_asyncio(full: Router) -> None:
    """The same for drivers that asyncio waits for."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            found = await session.stream_scalars(streaming(selectinload(Customer.orders)))
            if drops_rows(router):
                with pytest.raises(RoutingError, match="R214"):
                    await found.all()
            else:
                assert sorted([one.id async for one in found]) == list(KEYS)
            loaded = await session.stream_scalars(streaming(joinedload(Customer.country)))
            assert sorted([one.id async for one in loaded]) == list(KEYS)

    run(full, main)


def test_the_end_of_a_transaction_of_asyncio(full: Router) -> None:
    """The same."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            session.add_all(Customer(id=key, name="new") for key in (100, 101))
            await session.flush()
            found = await session.stream(select(Customer.id).execution_options(yield_per=3))
            await found.fetchone()
            await session.commit()
            with pytest.raises((RoutingError, DBAPIError)):
                await found.all()
            assert len((await session.scalars(select(Customer.id))).all()) == len(KEYS) + 2

    run(full, main)


def test_what_siblings_of_a_failed_read_have_returned(full: Router) -> None:
    """Is closed, so that their connections can be asked for something else."""
    with full.engines["d1"].begin() as connection:
        connection.execute(text("ALTER TABLE customers RENAME TO gone"))
    with full.sessionmaker()() as session:
        with pytest.raises(DBAPIError):
            session.execute(select(Customer.id).execution_options(yield_per=3))
        again = select(func.count()).select_from(Customer)
        assert session.scalar(again, bind_arguments={"shard": "shop/s0"}) == len(KEYS) / 2
