"""The policy about statements that would reach every shard."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from router import CrossShardError, Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.shop import Customer, Note, Order, open_router

OTHER = aliased(Order)
WIDE = [
    select(Customer),
    select(func.count()).select_from(Customer),
    select(Order.number).join(OTHER, OTHER.total == Order.number),
]
ALLOW = {"execution_options": {"scatter": "allow"}}
DENY = {"execution_options": {"scatter": "deny"}}


@pytest.fixture
def denying(make_databases: MakeDatabases) -> Any:
    """A shop whose map denies scatter."""
    with open_router(make_databases("sqlite", 3), scatter="deny") as router:
        yield router


@pytest.mark.parametrize("statement", WIDE, ids=str)
def test_denied(denying: Router, statement: Any) -> None:
    """Without a key it is refused in every tier, unless the call or the statement allows it."""
    with denying.sessionmaker()() as session:
        with pytest.raises(CrossShardError, match="R309"):
            session.execute(statement)
        assert session.execute(statement, **ALLOW).all() is not None
        assert session.execute(statement.execution_options(scatter="allow")).all() is not None


@pytest.mark.parametrize("statement", WIDE, ids=str)
def test_allowed(lite: Router, statement: Any) -> None:
    """Where the map allows it, a call may deny it."""
    with lite.sessionmaker()() as session:
        assert session.execute(statement).all() is not None
        with pytest.raises(CrossShardError, match="R309"):
            session.execute(statement, **DENY)


def test_keys_are_no_scatter(denying: Router) -> None:
    """A statement that names its keys is none, even if they are on every shard."""
    with denying.sessionmaker()() as session:
        assert session.scalars(select(Customer).where(Customer.id.in_(range(9)))).all() == []
        assert session.scalar(select(func.count()).where(Customer.id.in_(range(9)))) == 0


def test_get(denying: Router) -> None:
    """Asking every shard for a primary key is a scatter."""
    with denying.sessionmaker()() as session:
        with pytest.raises(CrossShardError, match="R309"):
            session.get(Note, 1)
        assert session.get(Note, 1, **ALLOW) is None


def test_a_wrong_option(lite: Router) -> None:
    """There are two words for it."""
    with lite.sessionmaker()() as session, pytest.raises(RoutingError, match="R206"):
        session.execute(select(Customer), execution_options={"scatter": "maybe"})
