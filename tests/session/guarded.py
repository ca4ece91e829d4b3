"""Tenants who share shards: the models that the tests of guarded partitions use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Select,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    func,
    insert,
    select,
)
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    column_property,
    mapped_column,
    relationship,
    sessionmaker,
)

from router import Router

MINE, OTHER, ELSEWHERE = 1, 3, 2
"""The guarded tenant, one on the same shard, one on another."""


class Base(AsyncAttrs, DeclarativeBase):
    """Base of the models."""


tags_of = Table(
    "tags_of",
    Base.metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class Tag(Base):
    """A reference table."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))
    tenants: Mapped[list[Tenant]] = relationship(secondary=tags_of, back_populates="tags")


class Tenant(Base):
    """The primary key is the shard key."""

    __tablename__ = "tenants"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))
    orders: Mapped[list[Order]] = relationship(back_populates="tenant")
    raising: Mapped[list[Order]] = relationship(lazy="raise", viewonly=True)
    appended: DynamicMapped[Order] = relationship(viewonly=True)
    written: WriteOnlyMapped[Order] = relationship(viewonly=True)
    notes: Mapped[list[Note]] = relationship(back_populates="tenant")
    tags: Mapped[list[Tag]] = relationship(secondary=tags_of, back_populates="tenants")
    names_of_tags: AssociationProxy[list[str]] = association_proxy("tags", "name")

    @hybrid_property
    def spent(self) -> int:
        """The sum of all orders."""
        return sum(order.total for order in self.orders)

    @spent.inplace.expression
    @classmethod
    def _spent(cls) -> Any:
        return select(func.sum(Order.total)).where(Order.tenant_id == cls.id).scalar_subquery()


class Order(Base):
    """The primary key contains the shard key; an order may follow another."""

    __tablename__ = "orders"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "follows"], ["orders.tenant_id", "orders.number"]),
    )

    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    total: Mapped[int] = mapped_column(default=0)
    follows: Mapped[int | None]
    tenant: Mapped[Tenant] = relationship(back_populates="orders")
    previous: Mapped[Order | None] = relationship(
        remote_side="[Order.tenant_id, Order.number]", viewonly=True
    )
    next: Mapped[list[Order]] = relationship(
        remote_side="[Order.tenant_id, Order.follows]", viewonly=True
    )


class Note(Base):
    """The primary key does not contain the shard key."""

    __tablename__ = "notes"
    __table_args__ = (UniqueConstraint("tenant_id", "title"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    title: Mapped[str] = mapped_column(String(40))
    tenant: Mapped[Tenant] = relationship(back_populates="notes")
    lines: Mapped[list[Line]] = relationship(back_populates="note")


class Line(Base):
    """Refers to a note by its primary key only, so that it may be another tenant's."""

    __tablename__ = "lines"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[int]
    note_id: Mapped[int | None] = mapped_column(ForeignKey("notes.id"))
    text: Mapped[str] = mapped_column(String(40))
    note: Mapped[Note | None] = relationship(back_populates="lines")


class Asset(Base):
    """The base of a class with a table of its own, and of one without."""

    __tablename__ = "assets"

    tenant_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "asset",
    }


class House(Asset):
    """In the table of its base."""

    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "house"}


class Vehicle(Asset):
    """In two tables."""

    __tablename__ = "vehicles"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "number"], ["assets.tenant_id", "assets.number"]),
    )

    tenant_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    wheels: Mapped[int]
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "vehicle"}


class Ledger(Base):
    """An unsharded table in a database of its own."""

    __tablename__ = "ledgers"

    id: Mapped[int] = mapped_column(primary_key=True)


Tenant.all_orders = column_property(
    select(func.count(Order.number)).correlate(None).scalar_subquery(), deferred=True
)
Tenant.own_orders = column_property(
    select(func.count(Order.number))
    .where(Order.tenant_id == Tenant.id)
    .correlate_except(Order)
    .scalar_subquery(),
    deferred=True,
)

TABLES = [table for table in Base.metadata.sorted_tables if table.name not in ("tags", "ledgers")]


def shard_map(urls: list[str]) -> dict[str, Any]:
    """Return a map of two shards; tenants with odd numbers share one."""
    main, *shards = urls
    keyed = ("orders", "notes", "lines", "assets", "vehicles", "tags_of")
    return {
        "version": 1,
        "databases": {
            "main": {"url": main},
            **{f"d{number}": {"url": url} for number, url in enumerate(shards)},
        },
        "keyspaces": {
            "books": {"database": "main"},
            "shop": {
                "shards": {f"s{number}": f"d{number}" for number in range(len(shards))},
                "sharding": {"function": "modulo"},
                "tables": {"tenants": "id", **dict.fromkeys(keyed, "tenant_id")},
                "reference_tables": ["tags"],
            },
        },
        "binds": {"default": "books"},
        "transactions": {"two_phase": False},
    }


@contextmanager
def tenants(urls: list[str], data: dict[str, Any] | None = None) -> Iterator[Router]:
    """Yield a router with three tenants' rows, past the session: it is under test."""
    with Router.from_dict(data or shard_map(urls), metadata=Base.metadata) as router:
        router.create_all()
        for directory in router.wiring.directories.values():
            directory.place({(one,): f"s{one % 2}" for one in (MINE, OTHER, ELSEWHERE)})
        for name in ("d0", "d1"):
            with router.engines[name].begin() as connection:
                connection.execute(insert(Tag), TAGS)
        for tenant in (MINE, OTHER, ELSEWHERE):
            with router.engine_for("shop", tenant).begin() as connection:
                _fill(connection, tenant)
        yield router


@contextmanager
def alone(url: str) -> Iterator[sessionmaker[Session]]:
    """Yield sessions of a database where the guarded tenant is the only one."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Tag), TAGS)
        _fill(connection, MINE)
    yield sessionmaker(engine)
    engine.dispose()


TAGS = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]


def _fill(connection: Connection, tenant: int) -> None:
    own = {"tenant_id": tenant}
    connection.execute(insert(Tenant), {"id": tenant, "name": f"t{tenant}"})
    orders = [{**own, "number": n, "total": tenant, "follows": n - 1 or None} for n in (1, 2)]
    connection.execute(insert(Order), orders)
    connection.execute(insert(Note), {**own, "id": tenant * 10, "title": f"n{tenant}"})
    # The second line is below a note of the guarded tenant, whosever it is.
    below = {tenant: tenant * 10, tenant + 100: MINE * 10 if tenant != ELSEWHERE else None}
    lines = [{**own, "id": at, "note_id": note, "text": "x"} for at, note in below.items()]
    connection.execute(insert(Line), lines)
    assets = [{**own, "number": n, "kind": ("house", "vehicle")[n]} for n in (0, 1)]
    connection.execute(insert(Asset.__table__), assets)
    connection.execute(insert(Vehicle.__table__), {**own, "number": 1, "wheels": tenant})
    connection.execute(insert(tags_of), [{**own, "tag_id": tag} for tag in (1, 2)])


def rows(connection: Connection, *, mine: bool) -> dict[str, list[Any]]:
    """Return all rows of the tenants' tables that are the guarded one's, or that are not."""
    found: dict[str, list[Any]] = {}
    for table in TABLES:
        key = table.c.id if table is Tenant.__table__ else table.c.tenant_id
        own = (key == MINE) if mine else (key != MINE)
        found[table.name] = list(
            connection.execute(select(table).where(own).order_by(*table.primary_key))
        )
    return found


def rows_of_others(router: Router) -> list[dict[str, list[Any]]]:
    """Return all rows that are not the guarded tenant's."""
    found = []
    for name in ("d0", "d1"):
        with router.engines[name].connect() as connection:
            found.append(rows(connection, mine=False))
    return found


def count_of(entity: Any) -> Select[Any]:
    """Return the count of all rows of an entity."""
    return select(func.count()).select_from(entity)
