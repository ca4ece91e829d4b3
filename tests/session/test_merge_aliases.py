"""Expressions over two aliases of one table are written alike, but for names given later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, and_, case, create_engine, func, literal_column, select
from sqlalchemy.orm import Session, aliased
from sqlalchemy.pool import NullPool

from router import Router
from router.rewrite.columns import same
from tests.session.shop import Base, Customer, Order, open_router
from tests.support.databases import MakeDatabases

A, B = aliased(Order), aliased(Order)


def both(*columns: Any) -> Any:
    """Select from pairs of orders of one customer."""
    return select(*columns).select_from(A).join(B, A.customer_id == B.customer_id)


def last(statement: Any) -> Any:
    """Let nothing of the order be open."""
    return statement.order_by(A.customer_id, A.number, B.number)


STATEMENTS: dict[str, Callable[[], Any]] = {
    "columns that are not selected": lambda: last(both(A.number).order_by(A.total, B.total)),
    "functions": lambda: last(both(A.number).order_by(func.abs(A.total), func.abs(B.total))),
    "arithmetic": lambda: last(both(A.number).order_by(A.total % 3, B.total % 3)),
    "one of them selected": lambda: last(both(A.total % 3, B.number).order_by(B.total % 3)),
    "the other one selected": lambda: last(both(B.total % 3, A.number).order_by(A.total % 3)),
    "case": lambda: last(
        both(A.number).order_by(case((A.total > 4, 1), else_=0), case((B.total > 4, 1), else_=0))
    ),
    "pages": lambda: last(both(A.number).order_by(A.total % 3, B.total % 5)).limit(7).offset(2),
    "groups": lambda: (
        both(A.total % 3, B.total % 3, func.count())
        .group_by(A.total % 3, B.total % 3)
        .order_by(A.total % 3, B.total % 3)
    ),
    "groups, one of them selected": lambda: (
        both(A.total % 3, func.count())
        .group_by(A.total % 3, B.total % 3)
        .order_by(A.total % 3, B.total % 3)
    ),
    "groups that are not selected": lambda: (
        both(func.count())
        .group_by(func.abs(A.total), func.abs(B.total))
        .order_by(func.abs(A.total), func.abs(B.total))
    ),
    "aggregates": lambda: both(
        func.sum(A.total), func.sum(B.number), func.max(A.total * 2), func.max(B.total + B.number)
    ),
    "the same aggregate of both": lambda: both(func.max(A.total - 1), func.max(B.total - 1)).where(
        A.number < B.number
    ),
    "having": lambda: (
        both(A.total % 3, func.count())
        .where(A.number < B.number)
        .group_by(A.total % 3)
        .having(func.max(B.total % 7) > func.max(A.total % 7))
        .order_by(A.total % 3)
    ),
    "distinct": lambda: (
        both(A.total % 3, B.total % 3).distinct().order_by(B.total % 3, A.total % 3)
    ),
    "filters": lambda: both(
        func.sum(case((A.total > 4, A.total))), func.sum(case((B.total > 6, B.total)))
    ).where(and_(A.number <= B.number)),
}


@pytest.fixture(scope="module")
def pair(make_module_databases: MakeDatabases) -> Iterator[tuple[Router, Engine]]:
    """Four shards, and one database with the same rows."""
    *shards, single = make_module_databases("sqlite", 6)
    engine = create_engine(single, poolclass=NullPool)
    with open_router(shards) as router:
        Base.metadata.create_all(engine)
        for make in (router.sessionmaker(), lambda: Session(engine)):
            with make() as session:
                for key in range(8):
                    orders = [Order(number=n, total=(key * 7 + n * 5) % 11) for n in range(4)]
                    session.add(Customer(id=key, name=f"c{key}", orders=orders))
                session.commit()
        yield router, engine


@pytest.mark.parametrize("name", STATEMENTS)
def test_as_one_database(pair: tuple[Router, Engine], name: str) -> None:
    """Row for row."""
    router, engine = pair
    with router.sessionmaker()() as ours, Session(engine) as theirs:
        expected = theirs.execute(STATEMENTS[name]()).all()
        assert ours.execute(STATEMENTS[name]()).all() == expected
        assert expected


def test_what_is_the_same() -> None:
    """Expressions of the same columns, however often they are written."""
    assert same(func.abs(A.total) + 1, func.abs(A.total) + 1)
    assert same(Order.total % 3, Order.__table__.c.total % 3)
    assert not same(func.abs(A.total), func.abs(B.total))
    assert not same(A.total + 1, Order.total + 1)
    assert not same(A.total + 1, A.total + 2)
    assert not same(literal_column("1") + A.total, literal_column("2") + A.total)
    inner, other = select(A.total).subquery(), select(A.total).subquery()
    assert same(func.abs(inner.c.total), func.abs(inner.c.total))
    assert not same(func.abs(inner.c.total), func.abs(other.c.total))
