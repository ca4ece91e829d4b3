"""Owners with a key of two columns, either of which may be NULL, who share a shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Connection,
    ForeignKeyConstraint,
    String,
    and_,
    create_engine,
    func,
    insert,
    not_,
    select,
)
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    relationship,
    sessionmaker,
)

from router import Router

Key = tuple[str | None, int | None]

WHOLE: Key = ("eu", 1)
GUARDED: list[Key] = [WHOLE, ("eu", None), (None, 1), (None, None)]
"""Keys that are guarded; rows of the others are beside theirs on the shard."""
OTHERS: list[Key] = [("eu", 2), ("us", 1), ("us", None), (None, 2)]
KEYS = [*GUARDED, *OTHERS]


class Base(DeclarativeBase):
    """Base of the models."""


class Owner(Base):
    """The primary key is the shard key, under other names."""

    __tablename__ = "owners"

    area: Mapped[str] = mapped_column("region", String(5), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))
    entries: Mapped[list[Entry]] = relationship(back_populates="owner")
    items: Mapped[list[Item]] = relationship(
        primaryjoin="and_(Owner.area == foreign(Item.region), Owner.id == foreign(Item.owner_id))",
        viewonly=True,
    )
    neighbours: Mapped[list[Item]] = relationship(
        primaryjoin="Owner.area == foreign(Item.region)", viewonly=True
    )


class Item(Base):
    """The primary key says nothing of the key, nor does the reference to another item."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    region: Mapped[str | None] = mapped_column(String(5))
    owner_id: Mapped[int | None]
    title: Mapped[str] = mapped_column(String(40))
    above_id: Mapped[int | None]
    # No foreign keys: one may refer to a row that is somewhere else.
    above: Mapped[Item | None] = relationship(
        primaryjoin="foreign(Item.above_id) == remote(Item.id)", back_populates="below"
    )
    below: Mapped[list[Item]] = relationship(
        primaryjoin="Item.id == remote(foreign(Item.above_id))",
        back_populates="above",
        cascade="all",
    )
    titles_below: AssociationProxy[list[str]] = association_proxy("below", "title")

    @hybrid_property
    def weight(self) -> int:
        """The number of items below."""
        return len(self.below)

    @weight.inplace.expression
    @classmethod
    def _weight(cls) -> Any:
        below = Item.__table__.alias()
        return select(func.count()).where(below.c.above_id == cls.id).scalar_subquery()


class Entry(Base):
    """The primary key contains the key; it refers to an item by the item's primary key only."""

    __tablename__ = "entries"
    __table_args__ = (ForeignKeyConstraint(["region", "owner_id"], ["owners.region", "owners.id"]),)

    owner_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    region: Mapped[str] = mapped_column(String(5), primary_key=True)
    amount: Mapped[int]
    item_id: Mapped[int | None]
    owner: Mapped[Owner] = relationship(back_populates="entries")
    item: Mapped[Item | None] = relationship(primaryjoin="foreign(Entry.item_id) == Item.id")


Item.of_all = column_property(
    select(func.count(Entry.number)).correlate(None).scalar_subquery(), deferred=True
)

TABLES = Base.metadata.sorted_tables


def shard_map(urls: Sequence[str]) -> dict[str, Any]:
    """Return a map of two shards; all of the keys are on the first."""
    pair = ["region", "owner_id"]
    return {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            "shop": {
                "shards": {f"s{number}": f"d{number}" for number in range(len(urls))},
                "sharding": {"function": "hash", "buckets": 16, "null_shard": "s0"},
                "tables": {"owners": ["region", "id"], "items": pair, "entries": pair},
            },
        },
        "transactions": {"two_phase": False},
    }


@contextmanager
def owners(urls: Sequence[str]) -> Iterator[Router]:
    """Yield a router with the rows of all keys, written past the session."""
    with Router.from_dict(shard_map(urls), metadata=Base.metadata) as router:
        router.create_all()
        with router.engines["d0"].begin() as connection:
            for key in KEYS:
                assert router.engine_for("shop", key) is router.engines["d0"]
                fill(connection, key)
        yield router


@contextmanager
def alone(url: str, key: Key) -> Iterator[sessionmaker[Session]]:
    """Yield sessions of a database with the rows of one key only."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        fill(connection, key)
    yield sessionmaker(engine)
    engine.dispose()


def fill(connection: Connection, key: Key) -> None:
    """Insert the rows of one key; two items of each are below one of the first key's."""
    region, number = key
    first = KEYS.index(key) * 10
    whose = {"region": region, "owner_id": number}
    above = {first: None, first + 1: first, first + 2: 0 if key != WHOLE else None, first + 3: 10}
    items = [{**whose, "id": at, "title": f"i{at}", "above_id": one} for at, one in above.items()]
    connection.execute(insert(Item), items)
    if region is None or number is None:
        return
    connection.execute(insert(Owner), {"region": region, "id": number, "name": f"{region}{number}"})
    entries = [
        {**whose, "number": n, "amount": first + n, "item_id": item}
        for n, item in ((1, first), (2, 20))
    ]
    connection.execute(insert(Entry), entries)


def rows(connection: Connection, key: Key, *, mine: bool) -> dict[str, list[Any]]:
    """Return all rows of a key, or all that are not."""
    found: dict[str, list[Any]] = {}
    for table in TABLES:
        number = table.c.id if table is Owner.__table__ else table.c.owner_id
        own = and_(
            *(
                column.is_not_distinct_from(value)
                for column, value in zip((table.c.region, number), key, strict=True)
            )
        )
        query = select(table).where(own if mine else not_(own))
        found[table.name] = list(connection.execute(query.order_by(*table.primary_key)))
    return found
