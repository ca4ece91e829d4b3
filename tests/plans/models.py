"""The models and the map that the statements of ``tests/plans/*.yaml`` are about."""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar

from sqlalchemy import (
    Column,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Numeric,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    relationship,
    synonym,
)
from sqlalchemy.sql.expression import ClauseElement, ColumnElement
from sqlalchemy.sql.functions import FunctionElement


class Base(DeclarativeBase):
    """Base of the models."""


class Country(Base):
    """A reference table of the shop."""

    __tablename__ = "countries"

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    name: Mapped[str] = mapped_column(default="?")
    changed: Mapped[date | None] = mapped_column(onupdate=func.current_date())


class Currency(Base):
    """A reference table of the shop and of the depot."""

    __tablename__ = "currencies"

    code: Mapped[str] = mapped_column(String(3), primary_key=True)


class Customer(Base):
    """The primary key is the shard key."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(default="")
    country: Mapped[str | None] = mapped_column(ForeignKey("countries.code"))
    score: Mapped[int | None]
    orders: Mapped[list[Order]] = relationship(back_populates="customer")
    tickets: Mapped[list[Ticket]] = relationship(
        primaryjoin="Customer.id == foreign(Ticket.customer_id)", viewonly=True
    )
    number = synonym("id")

    @hybrid_property
    def key(self) -> int:
        """Another name of the key."""
        return self.id

    @hybrid_property
    def shifted(self) -> int:
        """An expression of the key."""
        return self.id + 1


class Order(Base):
    """The primary key contains the shard key."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    total: Mapped[int | None]
    weight: Mapped[Any] = mapped_column(Numeric(10, 2), nullable=True)
    state: Mapped[str | None] = mapped_column(String(10))
    customer: Mapped[Customer] = relationship(back_populates="orders")
    lines: Mapped[list[Line]] = relationship(
        back_populates="order",
        primaryjoin="and_(Order.id == foreign(Line.order_id),"
        " Order.customer_id == foreign(Line.customer_id))",
    )


class Line(Base):
    """Colocated with orders."""

    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    order_id: Mapped[int]
    customer_id: Mapped[int] = mapped_column(primary_key=True)
    quantity: Mapped[int | None]
    order: Mapped[Order] = relationship(
        back_populates="lines",
        primaryjoin="and_(Order.id == foreign(Line.order_id),"
        " Order.customer_id == foreign(Line.customer_id))",
    )


Customer.order_count = column_property(
    select(func.count(Order.id))
    .where(Order.customer_id == Customer.id)
    .correlate_except(Order)
    .scalar_subquery(),
    deferred=True,
)


class Note(Base):
    """The primary key does not contain the shard key."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int | None]
    body: Mapped[str | None]


class Contact(Base):
    """The parent of a joined inheritance."""

    __tablename__ = "contacts"
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "contact"}

    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]


class Firm(Contact):
    """Spread over two tables, both split by the customer."""

    __tablename__ = "firms"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id", "id"], ["contacts.customer_id", "contacts.id"]),
    )
    __mapper_args__: ClassVar = {"polymorphic_identity": "firm"}

    customer_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True)
    tax: Mapped[str | None]


class Payment(Base):
    """The parent of a single-table inheritance."""

    __tablename__ = "payments"
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "payment"}

    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]


class CardPayment(Payment):
    """In the table of its parent."""

    __mapper_args__: ClassVar = {"polymorphic_identity": "card"}

    card: Mapped[str | None]


class Renamed(Base):
    """Attributes are named otherwise than columns, and one like another column."""

    __tablename__ = "renamed"

    id: Mapped[int] = mapped_column("number", primary_key=True, autoincrement=False)
    owner: Mapped[int] = mapped_column("id", primary_key=True, autoincrement=False)


class Visit(Base):
    """In a schema."""

    __tablename__ = "visits"
    __table_args__: ClassVar = {"schema": "audit"}

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Ticket(Base):
    """Another keyspace on the shop's databases: equal keys are on other shards."""

    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Stock(Base):
    """A shard key of two columns."""

    __tablename__ = "stock"
    __table_args__: ClassVar = (
        UniqueConstraint("region", "depot_id", "item"),
        UniqueConstraint("label"),
    )

    region: Mapped[str] = mapped_column(String(8), primary_key=True)
    depot_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str | None]


class Move(Base):
    """Colocated with stock."""

    __tablename__ = "moves"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    region: Mapped[str | None] = mapped_column(String(8))
    depot_id: Mapped[int | None]


class Event(Base):
    """Split by ranges of dates."""

    __tablename__ = "events"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Log(Base):
    """Split by ranges of integers, of which the last one ends."""

    __tablename__ = "logs"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    level: Mapped[int | None]


class Word(Base):
    """Split by ranges of text."""

    __tablename__ = "words"

    word: Mapped[str] = mapped_column(String(20), primary_key=True)
    stem: Mapped[str | None] = mapped_column(String(20))


class Place(Base):
    """Split by lists, with a shard for NULL."""

    __tablename__ = "places"

    id: Mapped[int] = mapped_column(primary_key=True)
    country: Mapped[str | None] = mapped_column(String(2))


class Account(Base):
    """Unsharded."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str | None]


class Invoice(Base):
    """Unsharded, in another database."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[int | None]


plain = Table(
    "plain", Base.metadata, Column("id", Integer, primary_key=True), Column("customer_id", Integer)
)
"""A table of the shop without a mapper."""

orders, customers = Order.__table__, Customer.__table__
order_lines, tickets = Line.__table__, Ticket.__table__


# -- what applications add to SQLAlchemy --------------------------------------------------------


class Doubled(TypeDecorator[int]):
    """Sends twice the value it is given."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value * 2


class moment(FunctionElement[Any]):
    """A function compiled by the application."""

    inherit_cache = True


class hidden_table(ColumnElement[Any]):
    """A construct that reads a table without showing it."""

    inherit_cache = True


class either(ColumnElement[Any]):
    """A construct that renders an OR without parentheses."""

    inherit_cache = True


class uncached(ColumnElement[Any]):
    """A construct with which statements have no cache key."""

    inherit_cache = False


@compiles(moment)
def _moment(element: ClauseElement, compiler: Any, **kw: Any) -> str:
    return "utc_now()"


@compiles(hidden_table)
def _hidden_table(element: ClauseElement, compiler: Any, **kw: Any) -> str:
    return "(SELECT max(total) FROM orders)"


@compiles(either)
def _either(element: ClauseElement, compiler: Any, **kw: Any) -> str:
    return "1 = 1 OR 2 = 2"


@compiles(uncached)
def _uncached(element: ClauseElement, compiler: Any, **kw: Any) -> str:
    return "true"


MAP: dict[str, Any] = {
    "version": 1,
    "databases": {
        name: {"url": f"postgresql+psycopg://app@{name}/app"}
        for name in ("main", "ledger", "db0", "db1", "db2", "db3", "far0", "far1", "far2")
    },
    "keyspaces": {
        "people": {"database": "main"},
        "billing": {"database": "ledger"},
        "shop": {
            "shards": {"s0": "db0", "s1": "db1", "s2": "db2", "s3": "db3"},
            "sharding": {"function": "hash", "buckets": 1024},
            "tables": {
                "customers": "id",
                "orders": "customer_id",
                "order_lines": "customer_id",
                "notes": "customer_id",
                "contacts": "customer_id",
                "firms": "customer_id",
                "payments": "customer_id",
                "renamed": "id",
                "audit.visits": "customer_id",
                "plain": "customer_id",
            },
            "reference_tables": ["countries", "currencies"],
        },
        "crm": {
            "shards": {"c0": "db0", "c1": "db1", "c2": "db2"},
            "sharding": {"function": "modulo"},
            "tables": {"tickets": "customer_id"},
        },
        "depot": {
            "shards": {"d0": "far0", "d1": "far1", "d2": "far2"},
            "sharding": {"function": "hash", "buckets": 64, "null_shard": "d1"},
            "tables": {"stock": ["region", "depot_id"], "moves": ["region", "depot_id"]},
            "reference_tables": ["currencies"],
        },
        "history": {
            "shards": {"y23": "far0", "y24": "far1", "y25": "far2"},
            "sharding": {
                "function": "range",
                "ranges": [
                    {"to": date(2024, 1, 1), "shard": "y23"},
                    {"to": date(2025, 1, 1), "shard": "y24"},
                    {"shard": "y25"},
                ],
            },
            "tables": {"events": "day"},
        },
        "journal": {
            "shards": {"low": "far0", "high": "far1"},
            "sharding": {
                "function": "range",
                "ranges": [{"to": 1000, "shard": "low"}, {"to": 2000, "shard": "high"}],
            },
            "tables": {"logs": "id"},
            "scatter": "deny",
        },
        "lexicon": {
            "shards": {"am": "far0", "nz": "far1"},
            "sharding": {
                "function": "range",
                "ranges": [{"to": "n", "shard": "am"}, {"shard": "nz"}],
            },
            "tables": {"words": "word"},
        },
        "geo": {
            "shards": {"eu": "far0", "us": "far1"},
            "sharding": {
                "function": "list",
                "values": {"eu": ["DE", "FR"], "us": ["US"]},
                "null_shard": "us",
            },
            "tables": {"places": "country"},
        },
    },
    "binds": {"tables": {"accounts": "people", "invoices": "billing"}, "default": "people"},
}
