"""Several gathers of one session at a time: each shard's loads need one."""

from __future__ import annotations

import pytest
from sqlalchemy import Select, select
from sqlalchemy.orm import selectinload, subqueryload

from router import Router
from tests.session.shop import Customer, Note, Order
from tests.session.test_asyncio import run

KEYS = range(60)


@pytest.fixture
def full(shop: Router) -> Router:
    """Sixty customers, thirty on each shard, with two orders each, and a note."""
    with shop.sessionmaker().begin() as session:
        for key in KEYS:
            orders = [Order(number=n, total=key + n) for n in range(2)]
            customer = Customer(id=key, name=f"c{key}", orders=orders)
            session.add_all([customer, Note(id=key, customer=customer, text=f"n{key}")])
    return shop


def statement(load: str) -> Select[tuple[Order]]:
    """Return orders whose loads span the shards, made while those of other shards are."""
    orders = select(Order).where(Order.number != 7)
    loads = {
        "many to one": subqueryload(Order.customer),
        "one to many": subqueryload(Order.customer).options(subqueryload(Customer.notes)),
        "both": subqueryload(Order.customer).options(selectinload(Customer.notes)),
    }
    return orders.options(loads[load]).execution_options(prebuffer_rows=True)


def seen(orders: list[Order]) -> list[tuple[int, str, str]]:
    """Return what was loaded of each order's customer."""
    found = [one.__dict__["customer"] for one in orders]
    return sorted((one.id, one.name, one.notes[0].text) for one in found)


EXPECTED = sorted((key, f"c{key}", f"n{key}") for key in KEYS for _ in range(2))
LOADS = ["many to one", "one to many", "both"]


@pytest.mark.parametrize("load", LOADS)
def test_in_lanes(full: Router, load: str) -> None:
    """None takes rows, or the connection, away from another."""
    with full.sessionmaker()() as session:
        assert seen(list(session.scalars(statement(load)))) == EXPECTED


@pytest.mark.parametrize("load", LOADS)
def test_in_tasks(full: Router, load: str) -> None:
    """None takes rows, or the connection, away from another."""

    async def main(router: Router) -> None:
        async with router.async_sessionmaker()() as session:
            found = list(await session.scalars(statement(load)))
            assert await session.run_sync(lambda _: seen(found)) == EXPECTED

    run(full, main)
