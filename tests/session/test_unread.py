"""Rows that a connection has not sent yet, when it is asked for something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Select, func, select
from sqlalchemy.orm import joinedload, selectinload

from router import Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.shop import Customer, Order, open_router
from tests.session.test_asyncio import run

KEYS = range(24)


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
