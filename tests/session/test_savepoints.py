"""Savepoints over several shards: what is undone is undone on all of them, the rest stays."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from router import Router
from tests.session.conftest import watch
from tests.session.shop import Account, Customer, Note


def names(session: Session) -> dict[int, str]:
    """Return the customers of all shards: id -> name."""
    return dict(session.execute(select(Customer.id, Customer.name)).all())


def test_a_shard_first_touched_inside_a_savepoint(shop: Router) -> None:
    """Its rows are undone with the savepoint; it takes part in what comes after."""
    with shop.sessionmaker()() as session:
        session.add(Customer(id=2, name="outer"))
        session.flush()
        with session.begin_nested() as savepoint:
            session.add_all([Customer(id=1, name="inner"), Customer(id=4, name="inner")])
            session.add(Account(id=1, name="inner"))
            session.flush()
            assert names(session) == {1: "inner", 2: "outer", 4: "inner"}
            savepoint.rollback()
        assert names(session) == {2: "outer"}
        session.add(Customer(id=3, name="after"))
        session.commit()
        assert names(session) == {2: "outer", 3: "after"}
        assert session.scalars(select(Account)).all() == []


def test_savepoints_in_savepoints(shop: Router) -> None:
    """The innermost is undone, the one around it kept; then the other way round."""
    for undone, kept in (("inner", {0: "o", 1: "o", 2: "m", 3: "m"}), ("middle", {0: "o", 1: "o"})):
        with shop.sessionmaker()() as session:
            session.add_all([Customer(id=0, name="o"), Customer(id=1, name="o")])
            session.flush()
            middle = session.begin_nested()
            session.add_all([Customer(id=2, name="m"), Customer(id=3, name="m")])
            inner = session.begin_nested()
            session.add_all([Customer(id=4, name="i"), Customer(id=5, name="i")])
            session.flush()
            (inner if undone == "inner" else middle).rollback()
            assert names(session) == kept
            if undone == "inner":
                middle.commit()
            assert names(session) == kept
            session.rollback()
            assert names(session) == {}


def test_an_error_on_one_shard_undoes_the_block_on_all(shop: Router) -> None:
    """Rows of other shards, written by the same flush, do not stay behind."""
    make = shop.sessionmaker()
    with make.begin() as session:
        session.add(Customer(id=1, name="first"))
    with make.begin() as session:
        session.add(Customer(id=2, name="outer"))
        session.flush()

        def clash() -> None:
            with session.begin_nested():
                session.add_all([Customer(id=4, name="inner"), Customer(id=6, name="inner")])
                session.flush()
                session.execute(insert(Customer).values(id=1, name="twice"))

        with pytest.raises(IntegrityError):
            clash()
        session.add(Customer(id=3, name="after"))
    with make() as session:
        assert names(session) == {1: "first", 2: "outer", 3: "after"}


def test_objects_are_as_they_were(shop: Router) -> None:
    """Namesakes on two shards that a savepoint changed, added or deleted."""
    make = shop.sessionmaker()
    with make.begin() as session:
        for key in (1, 2):
            session.add(Customer(id=key, name="c", notes=[Note(id=7, text=f"n{key}")]))
    with make.begin() as session:
        one, two = sorted(session.scalars(select(Note)), key=lambda note: note.customer_id)
        with session.begin_nested() as savepoint:
            one.text = "changed"
            session.delete(two)
            session.add(Note(id=8, customer_id=2, text="new"))
            session.flush()
            savepoint.rollback()
        assert (one.text, two.text) == ("n1", "n2")
        assert sorted(note.text for note in session.scalars(select(Note))) == ["n1", "n2"]
        two.text = "kept"
    with make() as session:
        assert sorted(note.text for note in session.scalars(select(Note))) == ["kept", "n1"]


def test_reading_in_a_savepoint_opens_no_transaction_of_its_own(lite: Router) -> None:
    """One connection to each shard serves the whole session."""
    with lite.sessionmaker()() as session:
        session.add_all([Customer(id=0, name="c"), Customer(id=1, name="c")])
        session.flush()
        outer = {
            key: session.connection(bind_arguments={"shard": f"shop/s{key}"}).connection
            for key in range(3)
        }
        sent = watch(lite)
        with session.begin_nested():
            assert len(names(session)) == 2
            for key in range(3):
                inner = session.connection(bind_arguments={"shard": f"shop/s{key}"})
                assert inner.connection.dbapi_connection is outer[key].dbapi_connection
        assert sent.count("SELECT") == {"d0": 1, "d1": 1, "d2": 1}
        assert len(names(session)) == 2
