"""A map of one database: whatever cannot be followed can only go there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    ColumnElement,
    Sequence,
    String,
    bindparam,
    column,
    func,
    insert,
    select,
    table,
    text,
    update,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateSequence

from router import Router, RouterError, RoutingSession
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Base, Customer


@pytest.fixture(params=["sqlite", "postgresql"])
def single(request: pytest.FixtureRequest, make_databases: MakeDatabases) -> Iterator[Router]:
    """A router over one database, with an account in it."""
    (url,) = make_databases(request.param, 1)
    data = {
        "version": 1,
        "databases": {"main": {"url": url}},
        "keyspaces": {"main": {"database": "main"}},
        "binds": {"default": "main"},
    }
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        with router.sessionmaker().begin() as session:
            session.add(Account(id=1, name="a"))
        yield router


NAMED = table("accounts", column("id"))
UNREADABLE = [
    select(column("id")).select_from(NAMED),
    select(Account.id).from_statement(text("SELECT id FROM accounts").columns(Account.id)),
]


@pytest.mark.parametrize("statement", UNREADABLE)
def test_what_cannot_be_followed_goes_there(single: Router, statement: Any) -> None:
    """Tables named by text only are those of the one database."""
    with single.sessionmaker()() as session:
        assert session.scalars(statement).all() == [1]


def test_what_cannot_be_followed_is_refused_elsewhere(lite: Router) -> None:
    """With more than one database, a table named by text could be anywhere."""
    with lite.sessionmaker()() as session, pytest.raises(RouterError, match="R304"):
        session.scalars(UNREADABLE[0])


def test_errors_are_those_of_sqlalchemy(single: Router) -> None:
    """What is wrong with a statement is said as without a router."""
    with single.sessionmaker()() as session:
        with pytest.raises(sa_exc.CompileError):
            session.scalars(select(Account).order_by("no such column"))
        changed = update(Account).where(Account.id == bindparam("which")).values(name="b")
        with pytest.raises(sa_exc.InvalidRequestError) as caught:
            session.execute(
                changed,
                [{"which": 1}, {"which": 2}],
                execution_options={"synchronize_session": "fetch"},
            )
        assert not isinstance(caught.value, RouterError)


class Uncached(ColumnElement[str]):
    """An expression of which SQLAlchemy's cache may not know."""

    type = String()


@compiles(Uncached)
def _compile(element: Uncached, compiler: Any, **kw: Any) -> str:
    return "'b'"


class Own(DeclarativeBase):
    """Base of a table beside those of the shop."""


class Dated(Own):
    """Has values that the database computes."""

    __tablename__ = "dated"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(9), default=Uncached(), onupdate=Uncached())


def test_values_of_a_flush_are_not_looked_into(single: Router) -> None:
    """Whatever an expression reads, it is there; SQLAlchemy asks for no cache key of it, either."""
    Own.metadata.create_all(single.engines["main"])
    with single.sessionmaker()() as session:
        dated = Dated()
        session.add(dated)
        session.flush()
        assert dated.name == "b"


@pytest.mark.parametrize("make", [RoutingSession, None])
def test_the_next_number_of_a_sequence(single: Router, make: Any) -> None:
    """It comes as it is, not as a result, with a router and without one."""
    engine, numbers = single.engines["main"], Sequence("numbers")
    with single.sessionmaker()() if make is None else make(engine) as session:
        if engine.dialect.supports_sequences:
            session.execute(CreateSequence(numbers))
            assert [session.scalar(numbers), session.scalar(numbers)] == [1, 2]
        else:
            with pytest.raises(NotImplementedError):
                session.scalar(numbers)


def test_a_sequence_of_some_database(lite: Router) -> None:
    """With more than one database, each could have the sequence."""
    with lite.sessionmaker()() as session, pytest.raises(RouterError, match="R304"):
        session.scalar(Sequence("numbers"))


def test_a_savepoint_that_has_ended_by_itself(single: Router) -> None:
    """SQLAlchemy warns of it; only of several databases it is known why."""
    with single.sessionmaker()() as session:
        nested = session.begin_nested()
        savepoint = session.connection().get_nested_transaction()
        assert savepoint is not None
        savepoint._do_commit()
        with pytest.warns(sa_exc.SAWarning, match="already deassociated"):
            nested.rollback()
        assert session.get_one(Account, 1).name == "a"


def test_a_column_of_no_table_is_written(lite: Router) -> None:
    """``column("name")`` in an UPDATE means a column of its table."""
    with lite.sessionmaker()() as session:
        session.add_all(Customer(id=key, name="c") for key in range(3))
        session.flush()
        renamed = update(Customer).values({column("name"): "d"})
        session.execute(renamed, execution_options={"synchronize_session": False})
        session.expire_all()
        assert set(session.scalars(select(Customer.name))) == {"d"}


def test_a_column_of_no_table_is_still_the_key(lite: Router) -> None:
    """A row whose shard key changes under that name moves to its new shard."""
    with lite.sessionmaker()() as session:
        session.add(Customer(id=0, name="c"))
        session.commit()
        moved = update(Customer).where(Customer.id == 0).values({column("id"): 1})
        session.execute(moved, execution_options={"synchronize_session": False})
        session.commit()
        session.expunge_all()
        assert session.scalars(select(Customer.id)).all() == [1]
        assert session.get(Customer, 1) is not None


def test_rows_beside_values_warn_of_nothing(lite: Router) -> None:
    """Values for all rows, and rows with the keys: neither lacks anything."""
    added = insert(Customer).values(name=func.lower("DD")).returning(Customer)
    with lite.sessionmaker()() as session:
        found = session.scalars(added, [{"id": 1}, {"id": 4}]).all()
        assert [(one.id, one.name) for one in found] == [(1, "dd"), (4, "dd")]
