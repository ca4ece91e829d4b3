"""One database holding all rows, and shards holding them by key: what both give must agree."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Double,
    ForeignKey,
    LargeBinary,
    Numeric,
    Result,
    SmallInteger,
    String,
    Uuid,
    create_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool

from router.merge import merge
from router.rewrite.columns import bare
from router.rewrite.decompose import Decomposition, decompose
from router.rewrite.terms import Terms, TextOrder

SHARDS = 4
"""The last one stays empty."""


class Colour(Enum):
    """Declared in another order than that of the names."""

    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Base(DeclarativeBase):
    """Base of the models."""


class Parent(Base):
    """Its primary key is the shard key."""

    __tablename__ = "parents"

    k: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(20))
    facts: Mapped[list[Fact]] = relationship(back_populates="parent", order_by="Fact.n.desc()")


class Fact(Base):
    """A column of every kind; `k` is the shard key."""

    __tablename__ = "facts"

    k: Mapped[int] = mapped_column(ForeignKey("parents.k"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    small: Mapped[int | None] = mapped_column(SmallInteger)
    i: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(BigInteger)
    dec: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    wide: Mapped[Decimal | None] = mapped_column(Numeric(30, 9))
    free: Mapped[Decimal | None] = mapped_column(Numeric)
    f: Mapped[float | None] = mapped_column(Double)
    t: Mapped[str | None] = mapped_column(String(20))
    d: Mapped[date | None]
    ts: Mapped[datetime | None]
    tz: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    flag: Mapped[bool | None]
    u: Mapped[UUID | None] = mapped_column(Uuid)
    raw: Mapped[bytes | None] = mapped_column(LargeBinary(20))
    colour: Mapped[Colour | None]
    parent: Mapped[Parent] = relationship(back_populates="facts")


def holds_key(expressions: Sequence[Any]) -> bool:
    """Return whether the shard key is among `expressions`."""
    keys = [Parent.__table__.c.k, Fact.__table__.c.k]
    found = [bare(one) for one in expressions]
    return any(set(getattr(one, "base_columns", ())) & set(keys) for one in found if _column(one))


def _column(expression: Any) -> bool:
    return hasattr(expression, "table")


@dataclass
class Merging:
    """Sessions on one database with all rows, and on shards."""

    whole: Session
    shards: list[Session]
    terms: Terms

    def both(
        self, statement: Any, params: Any = None, *, keep: bool = False, **options: Any
    ) -> tuple[Result[Any], Result[Any]]:
        """Return the result of the one database, and that of the shards, merged."""
        found = self.decomposed(statement, params)
        # The transaction of a test that failed is over.
        for session in (self.whole, *self.shards):
            session.expunge_all()
            if not keep:
                session.rollback()
        one = self.whole.execute(statement, params, execution_options=options)
        return one, self.merged(found, **options)

    def decomposed(self, statement: Any, params: Any = None) -> Decomposition:
        """Return the decomposition of a statement that has one."""
        found = decompose(statement, params, self.terms)
        assert isinstance(found, Decomposition), found
        return found

    def refused(self, statement: Any, params: Any = None) -> str:
        """Return why a statement has no decomposition."""
        found = decompose(statement, params, self.terms)
        assert not isinstance(found, Decomposition), found.steps
        return found.reason

    def merged(self, found: Decomposition, **options: Any) -> Result[Any]:
        """Execute on every shard and merge."""
        return merge(
            [
                session.execute(found.statement, found.params, execution_options=options)
                for session in self.shards
            ],
            found,
        )

    def agree(
        self,
        statement: Any,
        params: Any = None,
        *,
        ordered: bool = True,
        unique: bool = False,
        keep: bool = False,
    ) -> list[Any]:
        """Compare both results, values, types and names; return the rows."""
        one, merged = self.both(statement, params, keep=keep)
        assert list(merged.keys()) == list(one.keys())
        if unique:
            one, merged = one.unique(), merged.unique()
        expected, got = exact(one), exact(merged)
        if not ordered:
            assert Counter(got) == Counter(expected), statement
        assert not ordered or got == expected, statement
        return expected


def exact(result: Result[Any]) -> list[Any]:
    """Return rows in a form that is equal only if they look the same."""
    return [tuple(look(value) for value in row) for row in result.all()]


def look(value: Any) -> Any:
    """Return a value together with its type, and an object as its columns and collections."""
    if isinstance(value, Parent):
        return "Parent", value.k, value.name, *(map(look, value.__dict__.get("facts", ())))
    if isinstance(value, Fact):
        return "Fact", value.k, value.n, repr(value.dec)
    if isinstance(value, tuple):
        return tuple(map(look, value))
    return type(value).__name__, repr(value)


@contextmanager
def merging(dialect: str, urls: Sequence[str], seed: int = 0) -> Iterator[Merging]:
    """Fill the databases: the first with all rows, the others with those of their shard."""
    engines = [create_engine(url, poolclass=NullPool) for url in urls]
    for engine in engines:
        Base.metadata.create_all(engine)
    sessions = [Session(engine, autoflush=False) for engine in engines]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does.*not.*support Decimal")
        generator = random.Random(seed)
        for k in range(23):
            for session in (sessions[0], sessions[1 + k % (SHARDS - 1)]):
                session.add(Parent(k=k, name=f"p{k % 5}"))
            for n in range(generator.randrange(7)):
                values = _values(generator, dialect)
                for session in (sessions[0], sessions[1 + k % (SHARDS - 1)]):
                    session.add(Fact(k=k, n=n, **values))
        for session in sessions:
            session.commit()
        terms = Terms.of(dialect, TextOrder.CODE_POINTS, holds_key)
        try:
            yield Merging(sessions[0], sessions[1:], terms)
        finally:
            for session in sessions:
                session.close()


def _values(generator: random.Random, dialect: str) -> dict[str, Any]:
    g = generator
    start = datetime(2024, 10, 27, 0, 15, tzinfo=UTC).replace(tzinfo=None)
    day = start + timedelta(minutes=g.randrange(8) * 30)
    floats = [-0.5, 0.0, 1.5, 1e300, 2.25]
    free = [Decimal("1"), Decimal("2.5"), Decimal("-3")]
    if dialect == "postgresql":
        floats += [math.nan, math.inf, -math.inf]
        free += [Decimal("1.00"), Decimal("NaN"), Decimal("1e20")]
    values: dict[str, Any] = {
        "small": g.choice([-3, 0, 1, 7]),
        "i": g.randrange(-9, 10),
        "big": g.choice([0, -5, 10**12, 3]),
        "dec": Decimal(g.randrange(-500, 500)) / 100,
        "wide": Decimal(g.randrange(10**14)) / 10**9,
        "free": g.choice(free),
        "f": g.choice(floats),
        "t": g.choice(["a", "A", "b", "B", "é", "z ", "z", "Z", "", "ab", "a b", "\U0001f600"]),
        "d": day.date() - timedelta(days=g.randrange(3)),
        "ts": day,
        "tz": day.replace(tzinfo=UTC),
        "flag": g.random() < 0.5,
        "u": UUID(int=g.choice([1, 2**127, 2**64, 77])),
        "raw": g.choice([b"", b"\x00", b"\xff", b"a", b"ab"]),
        "colour": g.choice(list(Colour)),
    }
    return {name: None if g.random() < 0.15 else value for name, value in values.items()}
