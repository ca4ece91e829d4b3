"""The models of the demo: plain SQLAlchemy, nothing in them knows of shards."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship


class Base(DeclarativeBase):
    """Base of the demo's models."""


class Airline(Base):
    """A reference table: every shard has all 16 rows."""

    __tablename__ = "airlines"

    carrier: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class Airport(Base):
    """A reference table: every shard has all 1,458 rows."""

    __tablename__ = "airports"

    faa: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class Plane(Base):
    """Sharded by tail number."""

    __tablename__ = "planes"

    tailnum: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int | None]
    manufacturer: Mapped[str]
    model: Mapped[str]
    seats: Mapped[int]
    flights: Mapped[list[Flight]] = relationship(
        primaryjoin=lambda: Plane.tailnum == foreign(Flight.tailnum), viewonly=True
    )


class Flight(Base):
    """Sharded by tail number, too: the flights of a plane are where the plane is."""

    __tablename__ = "flights"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tailnum: Mapped[str | None] = mapped_column(index=True)
    carrier: Mapped[str] = mapped_column(ForeignKey("airlines.carrier"))
    origin: Mapped[str]
    dest: Mapped[str]
    distance: Mapped[int]
    departed: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    airline: Mapped[Airline] = relationship()


class Weather(Base):
    """Not sharded: all of it is in one database of its own."""

    __tablename__ = "weather"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    origin: Mapped[str]
    measured: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    temp: Mapped[float | None]
