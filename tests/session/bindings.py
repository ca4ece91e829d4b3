"""Models that are bound to their databases in every way there is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of most models; its metadata is bound by name."""


class Elsewhere(DeclarativeBase):
    """Base whose metadata the router is not told the name of."""


class Ledger:
    """A mixin that is bound."""


class Special(Ledger):
    """A mixin below it that is bound elsewhere."""


class Invoice(Base):
    """Bound by its mapper, although its table is listed, too."""

    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)


class Entry(Ledger, Base):
    """Bound by a mixin, although its table is listed, too."""

    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)


class Correction(Special, Base):
    """Bound by the most specific class of its MRO."""

    __tablename__ = "corrections"
    id: Mapped[int] = mapped_column(primary_key=True)


class Log(Base):
    """Bound by its table, although its metadata is bound, too."""

    __tablename__ = "logs"
    id: Mapped[int] = mapped_column(primary_key=True)


class Event(Base):
    """Bound by its table's name with its schema; the one without it is another table."""

    __tablename__ = "happenings"
    __table_args__ = {"schema": "main"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)


class Plain(Base):
    """Bound by its metadata only."""

    __tablename__ = "plains"
    id: Mapped[int] = mapped_column(primary_key=True)


class Stray(Elsewhere):
    """Bound by nothing but the default."""

    __tablename__ = "strays"
    id: Mapped[int] = mapped_column(primary_key=True)


class Document(Ledger, Base):
    """The parent of joined and single-table inheritance, bound by the mixin."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "document"}  # noqa: RUF012


class Letter(Document):
    """A row of two tables."""

    __tablename__ = "letters"
    id: Mapped[int] = mapped_column(ForeignKey("documents.id"), primary_key=True)
    sender: Mapped[str] = mapped_column(String(10), default="me")
    __mapper_args__ = {"polymorphic_identity": "letter"}  # noqa: RUF012


class Memo(Document):
    """A row of its parent's table."""

    __mapper_args__ = {"polymorphic_identity": "memo"}  # noqa: RUF012


class Item(Base):
    """Sharded."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


core = Table("happenings", Base.metadata, Column("id", Integer, primary_key=True))
"""A Core table without a mapper, named like another one in a schema."""

HOMES: dict[Any, str] = {
    Invoice: "by_mapper",
    Entry: "by_class",
    Correction: "by_special",
    Log: "by_table",
    Event: "by_schema",
    Plain: "by_metadata",
    Stray: "by_default",
    Document: "by_class",
    Letter: "by_class",
    Memo: "by_class",
}
NAMES = sorted({*HOMES.values()})


def bound_map(urls: list[str], **binds: Any) -> dict[str, Any]:
    """Return a map with a database for each way to be bound, and two shards."""
    databases = {name: {"url": url} for name, url in zip([*NAMES, "d0", "d1"], urls, strict=True)}
    shop = {
        "shards": {"s0": "d0", "s1": "d1"},
        "sharding": {"function": "modulo"},
        "tables": {"items": "id"},
    }
    return {
        "version": 1,
        "databases": databases,
        "keyspaces": {**{name: {"database": name} for name in NAMES}, "shop": shop},
        "binds": {
            "mappers": {f"{__name__}:Invoice": "by_mapper"},
            "classes": {f"{__name__}:Ledger": "by_class", f"{__name__}:Special": "by_special"},
            "tables": {
                "invoices": "by_table",
                "entries": "by_table",
                "logs": "by_table",
                "main.happenings": "by_schema",
            },
            "metadata": {"base": "by_metadata"},
            "default": "by_default",
            **binds,
        },
        "transactions": {"two_phase": False},
    }


METADATA = {"base": Base.metadata, "elsewhere": Elsewhere.metadata}
