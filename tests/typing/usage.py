"""What type checkers know of sessions that route: the same as of SQLAlchemy's own.

Never run: checked by mypy and by pyright.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from sqlalchemy import Engine, ScalarResult, select
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

from router import AsyncRoutingSession, Router, RoutingSession


class Base(DeclarativeBase):
    """Base of the models."""


class Customer(Base):
    """A model."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def makers(router: Router) -> None:
    """A router makes what its documentation says."""
    assert_type(router.sessionmaker(), sessionmaker[RoutingSession])
    assert_type(router.sessionmaker()(), RoutingSession)
    assert_type(router.async_sessionmaker(), async_sessionmaker[AsyncRoutingSession])
    assert_type(router.async_sessionmaker()(), AsyncRoutingSession)
    scoped: scoped_session[RoutingSession] = router.scoped_session()
    assert_type(scoped(), RoutingSession)
    assert_type(router.engines["shop_0"], Engine)
    assert_type(router.engine_for("shop", 7), Engine)


def results(router: Router) -> None:
    """Results have the types of the columns and entities of their statement."""
    with router.sessionmaker().begin() as session:
        assert_type(session, RoutingSession)
        assert_type(session.get(Customer, 7), Customer | None)
        assert_type(session.get_one(Customer, 7), Customer)
        assert_type(session.scalars(select(Customer)), ScalarResult[Customer])
        assert_type(session.scalars(select(Customer.name)).all(), Sequence[str])
        assert_type(session.execute(select(Customer)).scalar_one(), Customer)
        assert_type(session.query(Customer).all(), list[Customer])
        assert_type(session.merge(Customer(id=7, name="Zoë")), Customer)
        assert_type(session.token(), str | None)
    with RoutingSession(router=router, after=None) as told, told.using(role="primary"):
        assert_type(told.after("1~main~w1"), None)
    assert_type(router.replicas["shop_0"], tuple[Engine, ...])
    with RoutingSession(router=router) as alone, alone.partition(7, keyspace="shop"):
        assert_type(alone.scalars(select(Customer)).one(), Customer)


async def results_of_asyncio(router: Router) -> None:
    """The same below asyncio."""
    async with router.async_sessionmaker().begin() as session:
        assert_type(session, AsyncRoutingSession)
        assert_type(await session.get(Customer, 7), Customer | None)
        assert_type((await session.scalars(select(Customer))).all(), Sequence[Customer])
        async for customer in await session.stream_scalars(select(Customer)):
            assert_type(customer, Customer)
        with session.using(role="replica"):
            assert_type(await session.token(), str | None)
