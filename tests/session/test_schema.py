"""Creating and dropping tables where the map puts them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import ExitStack
from warnings import catch_warnings, simplefilter

import pytest
from sqlalchemy import (
    DDL,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from router import Router
from router.transaction.log import LOG, identity_of
from tests.conftest import MakeDatabases


class Base(DeclarativeBase):
    """Base of the models."""


class Color(enum.Enum):
    """A type of its own on PostgreSQL."""

    RED = 1
    BLUE = 2


class Shelf(Base):
    """A reference table, in both keyspaces."""

    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(primary_key=True)
    color: Mapped[Color]


class Box(Base):
    """Sharded; refers to its own shelf, to an account elsewhere, and to a lid and back."""

    __tablename__ = "boxes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelves.id"))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"), index=True)
    lid_id: Mapped[int | None] = mapped_column(ForeignKey("lids.id", name="lid_of_box"))
    color: Mapped[Color]


class Lid(Base):
    """Sharded like its box."""

    __tablename__ = "lids"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    box_id: Mapped[int | None] = mapped_column(ForeignKey("boxes.id", name="box_of_lid"))
    color: Mapped[Color]


class Owner(Base):
    """Unsharded, in a database of its own; refers to a sharded table."""

    __tablename__ = "owners"

    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int | None] = mapped_column(ForeignKey("boxes.id", name="box_of_owner"))


@pytest.fixture
def shelves(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """Three databases, still empty."""
    urls = make_databases(dialect, 3)
    data = {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            "main": {"database": "d2"},
            "all": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": {"boxes": "id", "lids": "id"},
                "reference_tables": ["shelves"],
            },
        },
        "binds": {"default": "main"},
        "transactions": {"two_phase": dialect != "sqlite"},
    }
    with Router.from_dict(data, metadata=Base.metadata) as router:
        yield router


def tables(router: Router) -> dict[str, list[str]]:
    """Return database name -> the tables there, but for the log of commits."""
    return {
        name: sorted({*inspect(router.engines[name]).get_table_names()} - {LOG.name})
        for name in router.engines
    }


PLACES = {
    "d0": ["boxes", "lids", "shelves"],
    "d1": ["boxes", "lids", "shelves"],
    "d2": ["owners"],
}


def test_tables_are_where_the_map_puts_them(shelves: Router) -> None:
    """Twice is as good as once; dropping leaves nothing, neither tables nor types."""
    shelves.create_all()
    shelves.create_all()
    assert tables(shelves) == PLACES
    with shelves.sessionmaker().begin() as session:
        session.add(Shelf(id=1, color=Color.RED))
        session.flush()
        session.add_all([Box(id=key, color=Color.BLUE, shelf_id=1, owner_id=5) for key in range(4)])
    with catch_warnings():
        # SQLite cannot drop foreign keys, so SQLAlchemy does not know where to begin.
        simplefilter("ignore", SAWarning)
        shelves.drop_all()
    assert tables(shelves) == {"d0": [], "d1": [], "d2": []}
    shelves.create_all()
    assert tables(shelves) == PLACES
    with shelves.sessionmaker()() as session:
        assert session.scalars(select(Box)).all() == []


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_foreign_keys_stay_within_a_database(shelves: Router) -> None:
    """Those within are kept, cycles too; the metadata is left as it was."""
    shelves.create_all()

    def referred(database: str, table: str) -> set[str]:
        keys = inspect(shelves.engines[database]).get_foreign_keys(table)
        return {key["referred_table"] for key in keys}

    assert referred("d1", "boxes") == {"shelves", "lids"}
    assert referred("d1", "lids") == {"boxes"}
    assert referred("d2", "owners") == set()
    assert inspect(shelves.engines["d0"]).get_indexes("boxes")
    assert {key.column.table.name for key in Owner.__table__.foreign_keys} == {"boxes"}
    assert len(Box.__table__.foreign_keys) == 3


def test_listeners_of_tables_and_metadata_fire(shelves: Router) -> None:
    """Once for each database that a table is created in."""
    seen: list[object] = []

    def created(target: object, connection: object, **kw: object) -> None:
        seen.append(target)

    table = Box.__table__
    assert isinstance(table, Table)
    index = DDL("CREATE INDEX by_color ON %(table)s (color)")
    event.listen(table, "after_create", index)
    event.listen(table, "after_create", created)
    event.listen(Base.metadata, "after_create", created)
    try:
        shelves.create_all()
    finally:
        event.remove(table, "after_create", index)
        event.remove(table, "after_create", created)
        event.remove(Base.metadata, "after_create", created)
    assert seen.count(table) == 2
    assert seen.count(Base.metadata) == 3
    names = {one["name"] for one in inspect(shelves.engines["d1"]).get_indexes("boxes")}
    assert "by_color" in names


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_foreign_keys_that_are_enforced(shelves: Router) -> None:
    """SQLite, asked to enforce foreign keys, does not miss the tables of other databases."""
    shelves.create_all()
    with shelves.engines["d0"].begin() as connection:
        connection.execute(text("PRAGMA foreign_keys = ON"))
        connection.execute(insert(Box).values(id=2, owner_id=99, color=Color.RED))


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_decision_logs(shop: Router) -> None:
    """Every database has one, with an identity of its own that stays; dropping leaves it."""
    found = []
    for _ in range(2):
        shop.create_all()
        with ExitStack() as stack:
            connections = [
                stack.enter_context(engine.connect()) for engine in shop.engines.values()
            ]
            found.append([identity_of(connection) for connection in connections])
        shop.drop_all()
    assert found[0] == found[1]
    assert None not in found[0]
    assert len(set(found[0])) == 3


def test_several_metadata(make_databases: MakeDatabases) -> None:
    """Each metadata is created where its tables are bound."""
    one, two = MetaData(), MetaData()
    for metadata, name in ((one, "notes"), (one, "left"), (two, "right")):
        Table(name, metadata, Column("id", Integer, primary_key=True))
    urls = make_databases("sqlite", 2)
    data = {
        "version": 1,
        "databases": {"d0": {"url": urls[0]}, "d1": {"url": urls[1]}},
        "keyspaces": {"a": {"database": "d0"}, "b": {"database": "d1"}},
        "binds": {"metadata": {"two": "b"}, "default": "a"},
    }
    with Router.from_dict(data, metadata={"one": one, "two": two}) as router:
        router.create_all()
        assert tables(router) == {"d0": ["left", "notes"], "d1": ["right"]}
