"""Tables with every trap that sharding has, and the map that splits them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    Numeric,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
    select,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship


class Size(Enum):
    """Neither declared nor valued in alphabetical order."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    HUGE = "huge"


NAME = String(40)
"""Sorted and compared as the database does by default; `collate` gives it another collation."""

CODE = String(8).with_variant(mysql.VARCHAR(8, collation="utf8mb4_nopad_bin"), "mysql", "mariadb")
"""A text that is a shard key: only equal texts may be equal."""

MONEY = Numeric(12, 2)
MIXED = Numeric().with_variant(mysql.NUMERIC(18, 6), "mysql", "mariadb")
"""Scales of its own in each row, where the database keeps them."""

REAL = Float(53).with_variant(postgresql.DOUBLE_PRECISION(), "postgresql")
INSTANT = DateTime().with_variant(DateTime(timezone=True), "postgresql")
MOMENT = INSTANT.with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
LIST = JSON().with_variant(postgresql.ARRAY(BigInteger), "postgresql")


class Tagged(TypeDecorator[str]):
    """A text that is stored differently from how it is read."""

    impl = NAME
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else f"<{value}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is read."""
        return None if value is None else value.removeprefix("<")


class Base(DeclarativeBase):
    """Base of the models."""


class Country(Base):
    """A reference table of the shop and of the CRM."""

    __tablename__ = "countries"

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    name: Mapped[str] = mapped_column(NAME)
    rate: Mapped[Decimal | None] = mapped_column(MONEY)


class Product(Base):
    """A reference table of the shop."""

    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(NAME)
    price: Mapped[Decimal] = mapped_column(MONEY)
    size: Mapped[Size] = mapped_column()


favourites = Table(
    "favourites",
    Base.metadata,
    Column("customer_id", ForeignKey("customers.id"), primary_key=True),
    Column("product_id", ForeignKey("products.id"), primary_key=True),
)


class Customer(Base):
    """The primary key is the shard key."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str | None] = mapped_column(NAME)
    country_code: Mapped[str | None] = mapped_column(ForeignKey("countries.code"))
    size: Mapped[Size | None]
    score: Mapped[int | None]
    rating: Mapped[float | None] = mapped_column(REAL)
    balance: Mapped[Decimal | None] = mapped_column(MIXED)
    joined: Mapped[datetime | None] = mapped_column(MOMENT)
    born: Mapped[date | None]
    active: Mapped[bool | None]
    token: Mapped[UUID | None]
    country: Mapped[Country | None] = relationship()
    orders: Mapped[list[Order]] = relationship(
        back_populates="customer", order_by="Order.number.desc()"
    )
    notes: Mapped[list[Note]] = relationship(back_populates="customer")
    favourites: Mapped[list[Product]] = relationship(secondary=favourites)
    assets: Mapped[list[Asset]] = relationship()


class Order(Base):
    """The primary key contains the shard key."""

    __tablename__ = "orders"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    status: Mapped[str | None] = mapped_column(NAME)
    size: Mapped[Size | None]
    total: Mapped[Decimal | None] = mapped_column(MONEY)
    weight: Mapped[float | None] = mapped_column(REAL)
    placed: Mapped[datetime | None] = mapped_column(MOMENT)
    paid: Mapped[bool | None]
    customer: Mapped[Customer] = relationship(back_populates="orders")
    lines: Mapped[list[Line]] = relationship(back_populates="order")


class Line(Base):
    """A composite foreign key to a colocated table, and one to a reference table."""

    __tablename__ = "lines"
    __table_args__ = (
        ForeignKeyConstraint(
            ["customer_id", "order_number"], ["orders.customer_id", "orders.number"]
        ),
    )

    customer_id: Mapped[int] = mapped_column(primary_key=True)
    order_number: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int | None] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int | None]
    price: Mapped[Decimal | None] = mapped_column(MIXED)
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product | None] = relationship()


class Note(Base):
    """The primary key does not contain the shard key, which may be NULL."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customers.id"))
    title: Mapped[str | None] = mapped_column(NAME)
    body: Mapped[str | None] = mapped_column(Text)
    payload: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    written: Mapped[datetime | None] = mapped_column(MOMENT)
    marks: Mapped[Any | None] = mapped_column(LIST)
    customer: Mapped[Customer | None] = relationship(back_populates="notes")


class Ticket(Base):
    """Ids are unique only within a customer: selected by column, never as an object."""

    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int]
    subject: Mapped[str | None] = mapped_column(NAME)
    priority: Mapped[int | None]
    digest: Mapped[bytes | None] = mapped_column(LargeBinary(16))


class Account(Base):
    """Split by another function over other databases; refers to customers of the shop."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int | None]
    country_code: Mapped[str | None] = mapped_column(String(2))
    owner: Mapped[str | None] = mapped_column(NAME)
    value: Mapped[Decimal | None] = mapped_column(MIXED)
    opened: Mapped[date | None]
    customer: Mapped[Customer | None] = relationship(
        primaryjoin="foreign(Account.customer_id) == Customer.id", viewonly=True
    )
    contacts: Mapped[list[Contact]] = relationship(
        back_populates="account", order_by="Contact.position"
    )


class Contact(Base):
    """Colocated with its account."""

    __tablename__ = "contacts"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str | None] = mapped_column(NAME)
    called: Mapped[int | None]
    account: Mapped[Account] = relationship(back_populates="contacts")


class Campaign(Base):
    """Split by text."""

    __tablename__ = "campaigns"

    region: Mapped[str] = mapped_column(CODE, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str | None] = mapped_column(NAME)
    budget: Mapped[Decimal | None] = mapped_column(MONEY)


class Asset(Base):
    """The base of two classes: one in a table of its own, one in the same table."""

    __tablename__ = "assets"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str | None] = mapped_column(NAME)
    rooms: Mapped[int | None]
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "asset",
    }


class House(Asset):
    """A class without a table of its own."""

    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "house"}


class Vehicle(Asset):
    """A class with a second table."""

    __tablename__ = "vehicles"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id", "number"], ["assets.customer_id", "assets.number"]),
    )

    customer_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    wheels: Mapped[int | None]
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "vehicle"}


class Invoice(Base):
    """An unsharded table in a database of its own."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int | None]
    parent_id: Mapped[int | None]
    label: Mapped[str | None] = mapped_column(NAME)
    total: Mapped[Decimal | None] = mapped_column(MONEY)
    issued: Mapped[date | None]
    customer: Mapped[Customer | None] = relationship(
        primaryjoin="foreign(Invoice.customer_id) == Customer.id", viewonly=True
    )


class Setting(Base):
    """An unsharded table beside a shard, with names that need quotes."""

    __tablename__ = "Settings Of"

    id: Mapped[int] = mapped_column("Id", primary_key=True, autoincrement=False)
    name: Mapped[str | None] = mapped_column("order", Tagged)
    value: Mapped[int | None] = mapped_column("Value %")


Customer.invoices = relationship(
    Invoice,
    primaryjoin="foreign(Invoice.customer_id) == Customer.id",
    viewonly=True,
    order_by=Invoice.id,
)

Customer.orders_placed = column_property(
    select(func.count(Order.number))
    .where(Order.customer_id == Customer.id)
    .correlate_except(Order)
    .scalar_subquery(),
    deferred=True,
)
Line.amount = column_property(Line.price * Line.quantity)

DATABASES = 6
EMPTY_SHARD = "s3"


def shard_map(urls: list[str]) -> dict[str, Any]:
    """Return the map over six databases; two of the shop's are also the CRM's."""
    everything = {f"d{number}": {"url": url} for number, url in enumerate(urls)}
    hashing = {
        "function": "hash",
        "buckets": 1024,
        # Of the keys in use none falls into the last bucket.
        "assign": {"s0": [[0, 300]], "s1": [[301, 700]], "s2": [[701, 1022]], "s3": [[1023, 1023]]},
        "null_shard": "s1",
    }
    return {
        "version": 1,
        "databases": everything,
        "keyspaces": {
            "shop": {
                "shards": {"s0": "d0", "s1": "d1", "s2": "d2", "s3": "d3"},
                "sharding": hashing,
                "tables": {
                    "customers": "id",
                    "orders": "customer_id",
                    "lines": "customer_id",
                    "notes": "customer_id",
                    "tickets": "customer_id",
                    "assets": "customer_id",
                    "vehicles": "customer_id",
                    "favourites": "customer_id",
                },
                "reference_tables": ["countries", "products"],
            },
            "crm": {
                "shards": {"c0": "d2", "c1": "d3", "c2": "d4"},
                "sharding": {"function": "modulo"},
                "tables": {"accounts": "id", "contacts": "account_id"},
                "reference_tables": ["countries"],
            },
            "words": {
                "shards": {"w0": "d1", "w1": "d4"},
                "sharding": {"function": "list", "values": {"w0": ["EU", "eu"]}, "default": "w1"},
                "tables": {"campaigns": "region"},
            },
            "billing": {"database": "d5"},
            "config": {"database": "d0"},
        },
        "binds": {
            "tables": {"invoices": "billing", "Settings Of": "config"},
            "default": "config",
        },
        "transactions": {"two_phase": False},
    }


def collate(collation: str | None) -> None:
    """Let every text that is not a key sort and compare by `collation`."""
    NAME.collation = collation
