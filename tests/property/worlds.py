"""The same rows twice: in one database, and split over the shards of a random map."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, ForeignKey, create_engine, select
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
def world(seed: int, directory: Path) -> Iterator[World]:
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


def rows(choose: random.Random) -> list[Any]:
    """Return random rows of every table."""
    countries = [Country(code=code, size=size) for size, code in enumerate(("DE", "FR", "PE"))]
    customers, orders, notes = [], [], []
    for key in choose.sample(list(KEYS), 14):
        country = choose.choice(["DE", "FR", None])
        customers.append(Customer(id=key, country=country, score=choose.choice([0, 1, 2, None])))
        orders += [
            Order(customer_id=key, number=number, total=choose.choice([0, 7, None]))
            for number in range(choose.randint(0, 3))
        ]
    for number in range(20):
        owner = choose.choice([*KEYS, None])
        notes.append(Note(id=number, customer_id=owner, order_number=choose.choice([0, 1, None])))
    items = [Item(id=number, owner=choose.choice(list(KEYS))) for number in choose.sample(KEYS, 9)]
    settings = [Setting(id=number, value=choose.choice([0, 7, None])) for number in range(5)]
    return [*countries, *customers, *orders, *notes, *items, *settings]


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
                    home = router.wiring.home(binding.keyspace, row[binding.key[0]])
                    if home.shard != binding.keyspace.shard_id(shard):
                        found.append(f"{table.name} {dict(row)} lies on {shard}")
    return found
