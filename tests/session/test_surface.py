"""Whatever SQLAlchemy's session can do, ours does with the same results, sharded or not."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session
from sqlalchemy.orm import sessionmaker as plain_maker
from sqlalchemy.pool import NullPool

from router import Router, RoutingError
from tests.session.surface import CASES, ELSEWHERE, ROWS
from tests.support.databases import MakeDatabases


class Base(DeclarativeBase):
    """Base of the models."""


class Item(Base):
    """A table that is sharded by its primary key."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))


class Thing(Base):
    """The same, not sharded."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))


PLACES = {Item: {"keyspace": "shop", "shard_key": 1}, Thing: {"keyspace": "rest"}}
SCOPED = scoped_session(plain_maker())
MODELS = pytest.mark.parametrize("mapped", [Item, Thing], ids=["sharded", "unsharded"])


@pytest.fixture
def router(make_databases: MakeDatabases) -> Iterator[Router]:
    """A router over two shards and one more database, with eight rows of each class."""
    urls = make_databases("sqlite", 3)
    data = {
        "version": 1,
        "databases": {f"d{at}": {"url": url} for at, url in enumerate(urls)},
        "keyspaces": {
            "shop": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "hash", "buckets": 16},
                "tables": {"items": "id"},
            },
            "rest": {"database": "d2"},
        },
        "binds": {"default": "rest"},
        # Two SQLite databases cannot be written to in one transaction otherwise.
        "transactions": {"two_phase": False},
    }
    with Router.from_dict(data, metadata=Base.metadata) as made:
        made.create_all()
        fill(made.sessionmaker())
        yield made


@pytest.fixture
def plain(make_databases: MakeDatabases) -> Iterator[plain_maker[Session]]:
    """SQLAlchemy's own sessions over one database with the same rows."""
    engine = create_engine(make_databases("sqlite", 1)[0], poolclass=NullPool)
    Base.metadata.create_all(engine)
    made = plain_maker(engine)
    fill(made)
    yield made
    engine.dispose()


def fill(make: plain_maker[Any]) -> None:
    """Insert the rows that every case begins with."""
    with make.begin() as session:
        session.add_all(mapped(id=at, name=f"n{at}") for mapped in (Item, Thing) for at in ROWS)


@MODELS
@pytest.mark.parametrize("name", [name for name in CASES if hasattr(Session(), name)])
def test_a_session(
    router: Router, plain: plain_maker[Session], mapped: type[Base], name: str
) -> None:
    """Every public name."""
    with plain() as theirs, router.sessionmaker()() as ours:
        place = PLACES[mapped]
        assert CASES[name](ours, mapped, place) == CASES[name](theirs, mapped, place)


@MODELS
@pytest.mark.parametrize("name", [name for name in CASES if hasattr(SCOPED, name)])
def test_a_scoped_session(
    router: Router, plain: plain_maker[Session], mapped: type[Base], name: str
) -> None:
    """Every name that it passes on to the session of its scope."""
    theirs, ours = scoped_session(plain), router.scoped_session()
    try:
        place = PLACES[mapped]
        assert CASES[name](ours, mapped, place) == CASES[name](theirs, mapped, place)
    finally:
        ours.remove()
        theirs.remove()


def test_nothing_is_forgotten(plain: plain_maker[Session]) -> None:
    """A public name that SQLAlchemy has, and that no test here knows, fails."""
    session, scoped = plain(), scoped_session(plain)
    found = {name for one in (session, scoped) for name in dir(one) if not name.startswith("_")}
    assert found - {*CASES, *ELSEWHERE} == set()
    session.close()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_tested_elsewhere_is(name: str) -> None:
    """The test that is named there exists."""
    file, _, test = ELSEWHERE[name].partition("::")
    tree = ast.parse(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    assert test in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}


def test_arguments_of_the_constructor() -> None:
    """Each has a test of its own, or is among those that are named here."""
    text = Path(__file__).with_name("test_arguments.py").read_text(encoding="utf-8")
    names = set(inspect.signature(Session.__init__).parameters) - {"self"}
    elsewhere = {
        "future",  # has one value only
        "autocommit",  # has one value only
        "enable_baked_queries",  # of an extension
        "bind",
        "binds",
    }
    assert {name for name in names - elsewhere if f"{name}=" not in text} == set()


def test_binds_of_one_session_are_refused(router: Router) -> None:
    """The map says where classes and tables are, for all sessions."""
    with router.sessionmaker()() as session:
        engine = router.engines["d2"]
        with pytest.raises(RoutingError, match="R213"):
            session.bind_mapper(Item, engine)
        with pytest.raises(RoutingError, match="R213"):
            session.bind_table(Item.__table__, engine)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["bind", "binds", "bind_mapper", "bind_table"])
def test_a_session_that_does_not_route(router: Router, how: str) -> None:
    """Given a bind, it behaves as SQLAlchemy's: here it sees the rows of one shard only."""
    engine = router.engines["d0"]
    given: dict[str, Any] = {"bind": {"bind": engine}, "binds": {"binds": {Item: engine}}}
    routed = router.sessionmaker(**given.get(how, {}))
    # Without a router, where the bind is given later.
    made = routed if how in given else plain_maker(class_=routed.class_)
    with made() as session:
        if how == "bind_mapper":
            session.bind_mapper(Item, engine)
        if how == "bind_table":
            session.bind_table(Item.__table__, engine)
        assert 0 < session.query(Item).count() < len(ROWS)
        assert session.get_bind(Item) is engine
