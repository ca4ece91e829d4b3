"""A small shop: the models that the tests of sessions share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, String, Table, func
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

from router import Router


class Base(DeclarativeBase):
    """Base of the models."""


class Country(Base):
    """A reference table with values that the database generates."""

    __tablename__ = "countries"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    added: Mapped[datetime] = mapped_column(server_default=func.now())


tags_of = Table(
    "tags_of",
    Base.metadata,
    Column("customer_id", ForeignKey("customers.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class Tag(Base):
    """A reference table, related to customers through a sharded association table."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Customer(Base):
    """The primary key is the shard key."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))
    country_id: Mapped[int | None] = mapped_column(ForeignKey("countries.id"))
    country: Mapped[Country | None] = relationship()
    orders: Mapped[list[Order]] = relationship(
        back_populates="customer", cascade="all, delete-orphan"
    )
    notes: Mapped[list[Note]] = relationship(back_populates="customer")
    tags: Mapped[list[Tag]] = relationship(secondary=tags_of)


class Order(Base):
    """The primary key contains the shard key; rows have a version."""

    __tablename__ = "orders"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    total: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    customer: Mapped[Customer] = relationship(back_populates="orders")

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


class Note(Base):
    """The primary key does not contain the shard key: two shards may hold the same one."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    text: Mapped[str] = mapped_column(String(40))
    customer: Mapped[Customer] = relationship(back_populates="notes")
    lines: Mapped[list[Line]] = relationship(back_populates="note")


class Line(Base):
    """Refers to a note by its primary key only."""

    __tablename__ = "lines"
    __table_args__ = (ForeignKeyConstraint(["note_id"], ["notes.id"]),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note_id: Mapped[int]
    customer_id: Mapped[int]
    note: Mapped[Note] = relationship(back_populates="lines")


class Account(Base):
    """An unsharded table in a database of its own."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


def shard_map(urls: list[str], **changes: Any) -> dict[str, Any]:
    """Return a map: accounts in the first database, the shop over all the others."""
    main, *shards = urls
    databases = {"main": {"url": main}}
    databases.update({f"d{number}": {"url": url} for number, url in enumerate(shards)})
    return {
        "version": 1,
        "databases": databases,
        "keyspaces": {
            "accounts": {"database": "main"},
            "shop": {
                "shards": {f"s{number}": f"d{number}" for number in range(len(shards))},
                "sharding": {"function": "modulo"},
                "tables": {
                    "customers": "id",
                    "orders": "customer_id",
                    "notes": "customer_id",
                    "lines": "customer_id",
                    "tags_of": "customer_id",
                },
                "reference_tables": ["countries", "tags"],
            },
        },
        "binds": {"default": "accounts"},
        **changes,
    }


def open_router(urls: list[str], **changes: Any) -> Router:
    """Return a router over `urls` with all tables created.

    SQLite cannot be prepared, so its maps commit one database after another.
    """
    if urls[0].startswith("sqlite"):
        changes.setdefault("transactions", {"two_phase": False})
    router = Router.from_dict(shard_map(urls, **changes), metadata=Base.metadata)
    router.create_all()
    return router
