"""The same rows twice: in one database, and split over the shards of a random map."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, ForeignKey, String, create_engine, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

from router import Router
from router.route.binds import ShardedTable

KEYS = range(-3, 25)
HOT = list(KEYS)[:5]
SMALL = range(4)
SLUGS = ["", "A", "B", "a", "aa", "ab", "b", "é", "z"]


class Base(DeclarativeBase):
    """Base of the models."""


class Country(Base):
    """A reference table."""

    __tablename__ = "countries"

    code: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]


class Customer(Base):
    """The primary key is the shard key."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    country: Mapped[str | None] = mapped_column(ForeignKey("countries.code"))
    score: Mapped[int | None]
    orders: Mapped[list[Order]] = relationship(viewonly=True)


class Order(Base):
    """The primary key contains the shard key."""

    __tablename__ = "orders"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int | None]


class Note(Base):
    """The primary key does not contain the shard key, which may be NULL."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int | None]
    order_number: Mapped[int | None]


class Item(Base):
    """A table of another keyspace, split differently over the same databases."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[int]


class Stock(Base):
    """A table with a shard key of two columns."""

    __tablename__ = "stock"

    area: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int | None]


class Move(Base):
    """Colocated with `Stock`; both parts of its key may be NULL."""

    __tablename__ = "moves"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    area: Mapped[int | None]
    slot: Mapped[int | None]


class Tag(Base):
    """A table split by text."""

    __tablename__ = "tags"

    slug: Mapped[str] = mapped_column(String(20), primary_key=True)
    weight: Mapped[int | None]


class Setting(Base):
    """An unsharded table."""

    __tablename__ = "settings"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int | None]


@dataclass(frozen=True, slots=True)
class World:
    """Sessions over one database and over the shards, and the map that split them."""

    plain: sessionmaker[Session]
    routed: sessionmaker[Any]
    router: Router
    functions: str


@contextmanager
def world(seed: str, directory: Path) -> Iterator[World]:
    """Build a world: the map and the rows follow from `seed`."""
    choose = random.Random(seed)
    router = Router.from_dict(shard_map(choose, directory), metadata=Base.metadata)
    single = create_engine(f"sqlite:///{directory}/single.db")
    with router:
        router.create_all()
        Base.metadata.create_all(single)
        made = World(
            sessionmaker(single),
            router.sessionmaker(),
            router,
            str(router.shard_map.keyspaces["shop"]),
        )
        for make in (made.plain, made.routed):
            with make.begin() as session:
                session.add_all(rows(random.Random(seed)))
        yield made
    single.dispose()


def shard_map(choose: random.Random, directory: Path) -> dict[str, Any]:
    """Return a random map over SQLite files."""
    count = choose.randint(1, 5)
    names = [f"d{number}" for number in range(count)]
    shards = {f"s{number}": name for number, name in enumerate(names)}
    depot = dict(list(shards.items())[: choose.randint(1, count)])
    return {
        "version": 1,
        "databases": {name: {"url": f"sqlite:///{directory}/{name}.db"} for name in names},
        "keyspaces": {
            "shop": {
                "shards": shards,
                "sharding": {
                    **function(choose, list(shards)),
                    "null_shard": choose.choice([*shards]),
                },
                "tables": {"customers": "id", "orders": "customer_id", "notes": "customer_id"},
                "reference_tables": ["countries"],
            },
            "depot": {
                "shards": depot,
                "sharding": function(choose, list(depot)),
                "tables": {"items": "id"},
            },
            "yard": {
                "shards": shards,
                "sharding": {"function": "hash", "null_shard": choose.choice([*shards])},
                "tables": {"stock": ["area", "slot"], "moves": ["area", "slot"]},
            },
            "words": {
                "shards": shards,
                "sharding": text_function(choose, list(shards)),
                "tables": {"tags": "slug"},
            },
            "config": {"database": choose.choice(names)},
        },
        "binds": {"tables": {"settings": "config"}},
        "transactions": {"two_phase": False},
    }


def function(choose: random.Random, shards: list[str]) -> dict[str, Any]:
    """Return a random sharding function for integer keys."""
    kind = choose.choice(["hash", "modulo", "range", "list"])
    if kind == "hash":
        return {"function": "hash", "buckets": choose.choice([8, 64, 1024])}
    if kind == "modulo":
        return {"function": "modulo"}
    if kind == "range":
        bounds = sorted(choose.sample(list(KEYS), len(shards) - 1))
        ranges: list[dict[str, Any]] = [
            {"to": bound, "shard": shard} for bound, shard in zip(bounds, shards, strict=False)
        ]
        return {"function": "range", "ranges": [*ranges, {"shard": shards[-1]}]}
    values: dict[str, list[int]] = {shard: [] for shard in shards}
    for key in KEYS:
        if choose.random() < 0.7:
            values[choose.choice(shards)].append(key)
    listed = {shard: keys for shard, keys in values.items() if keys}
    return {"function": "list", "values": listed, "default": choose.choice(shards)}


def text_function(choose: random.Random, shards: list[str]) -> dict[str, Any]:
    """Return a random sharding function for text keys."""
    if choose.random() < 0.5:
        return {"function": "hash", "buckets": 64}
    bounds = sorted(choose.sample(SLUGS, len(shards) - 1))
    ranges: list[dict[str, Any]] = [
        {"to": bound, "shard": shard} for bound, shard in zip(bounds, shards, strict=False)
    ]
    return {"function": "range", "ranges": [*ranges, {"shard": shards[-1]}]}


def rows(choose: random.Random) -> list[Any]:
    """Return random rows of every table, most of them of the keys in `HOT`."""
    countries = [Country(code=code, size=size) for size, code in enumerate(("DE", "FR", "PE"))]
    owners = [*HOT, *choose.sample(list(KEYS)[len(HOT) :], 6)]
    customers = [
        Customer(
            id=key, country=choose.choice(["DE", "FR", None]), score=choose.choice([0, 1, 2, None])
        )
        for key in owners
    ]
    orders = [
        Order(customer_id=key, number=number, total=choose.choice([0, 7, None]))
        for key in owners
        for number in range(choose.randint(0, 3))
    ]
    notes = [
        Note(
            id=n,
            customer_id=choose.choice([*owners, *HOT, None]),
            order_number=choose.choice([0, 1, None]),
        )
        for n in range(20)
    ]
    items = [Item(id=key, owner=choose.choice(owners)) for key in owners]
    settings = [Setting(id=number, value=choose.choice([0, 7, None])) for number in range(5)]
    pairs = choose.sample([(area, slot) for area in SMALL for slot in SMALL], 9)
    stock = [Stock(area=a, slot=b, amount=choose.choice([0, 1, None])) for a, b in pairs]
    maybe = [*SMALL, None]
    moves = [Move(id=n, area=choose.choice(maybe), slot=choose.choice(maybe)) for n in range(12)]
    tags = [Tag(slug=slug, weight=choose.choice([0, 1, None])) for slug in choose.sample(SLUGS, 6)]
    return [*countries, *customers, *orders, *notes, *items, *settings, *stock, *moves, *tags]


def misplaced(made: World) -> list[str]:
    """Return every row that lies on a shard which its key does not name."""
    router, found = made.router, []
    for table in Base.metadata.sorted_tables:
        binding = router.wiring.binds.of_table(table)
        if not isinstance(binding, ShardedTable):
            continue
        for shard, database in binding.keyspace.shards.items():
            engine: Engine = router.engines[database]
            with engine.connect() as connection:
                for row in connection.execute(select(table)).mappings():
                    home = router.wiring.home(
                        binding.keyspace, tuple(row[name] for name in binding.key)
                    )
                    if home.shard != binding.keyspace.shard_id(shard):
                        found.append(f"{table.name} {dict(row)} lies on {shard}")
    return found
