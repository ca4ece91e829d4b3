"""Text that a database compares in its own way is ordered and told apart by the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, String, Table, create_engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from router import Router
from router.gather.declared import collations
from tests.conftest import MakeDatabases

WORDS = ["b", "A", "a", "B", "ä", "a", "Z", "c"]


class Base(DeclarativeBase):
    """Base of the models."""


class Word(Base):
    """One column says its collation; of the other, only the database knows it."""

    __tablename__ = "words"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    told: Mapped[str] = mapped_column(String(10, collation="NOCASE"))
    untold: Mapped[str] = mapped_column(String(10))


DDL = (
    "CREATE TABLE words (id INTEGER PRIMARY KEY, told VARCHAR(10) COLLATE NOCASE, "
    "untold VARCHAR(10) COLLATE NOCASE)"
)

World = tuple[Router, Engine]


@pytest.fixture
def world(make_databases: MakeDatabases) -> Iterator[World]:
    """Words over two shards, and the same ones in one database."""
    *urls, single = make_databases("sqlite", 3)
    data = {
        "version": 1,
        "databases": {f"d{at}": {"url": url} for at, url in enumerate(urls)},
        "keyspaces": {
            "all": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": {"words": "id"},
            }
        },
        "transactions": {"two_phase": False},
    }
    engine = create_engine(single)
    with Router.from_dict(data, metadata=Base.metadata) as router:
        for one in (engine, *router.engines.values()):
            with one.begin() as connection:
                connection.execute(text(DDL))
        for make in (router.sessionmaker(), lambda: Session(engine)):
            with make() as session:
                rows = enumerate(WORDS)
                session.add_all(Word(id=at, told=word, untold=word) for at, word in rows)
                session.commit()
        yield router, engine
    engine.dispose()


def both(world: World, statement: Any) -> tuple[list[Any], list[Any]]:
    """Return the rows of a statement from the shards, and from one database."""
    router, engine = world
    with router.sessionmaker()() as routed, Session(engine) as plain:
        return [list(map(tuple, session.execute(statement))) for session in (routed, plain)]  # type: ignore[return-value]


COLUMNS = pytest.mark.parametrize("column", [Word.told, Word.untold], ids=["told", "untold"])


@COLUMNS
def test_order(world: World, column: Any) -> None:
    """Neither code points nor anything else of Python's sorts it."""
    routed, plain = both(world, select(column, Word.id).order_by(column, Word.id))
    assert routed == plain
    assert routed != sorted(routed)


@COLUMNS
def test_equality(world: World, column: Any) -> None:
    """What the database calls equal is one row, and one group."""
    routed, plain = both(world, select(column).distinct())
    assert sorted(one.lower() for (one,) in routed) == sorted(one.lower() for (one,) in plain)
    grouped = select(func.count(), func.min(func.lower(column))).group_by(column)
    routed, plain = both(world, grouped)
    assert sorted(routed) == sorted(plain)
    assert max(routed)[0] == 3


@COLUMNS
def test_extremes(world: World, column: Any) -> None:
    """The least and the greatest are those of the database."""
    routed, plain = both(world, select(func.max(column)))
    assert routed == plain
    routed, plain = both(world, select(func.max(column)).where(column < "Zz"))
    assert routed == plain == [("Z",)]


DEFINITIONS = {
    "CREATE TABLE t (a TEXT COLLATE NOCASE, b TEXT)": {"a": "NOCASE"},
    'CREATE TABLE t ("A" VARCHAR(10) NOT NULL COLLATE "RTRIM", [b] TEXT collate nocase)': {
        "a": "RTRIM",
        "b": "nocase",
    },
    "CREATE TABLE t (a DECIMAL(10, 2), b TEXT DEFAULT ', x COLLATE NOCASE (' COLLATE BINARY)": {
        "b": "BINARY"
    },
    "CREATE TABLE t (a TEXT /* COLLATE x, */, b TEXT, CHECK (a <> b COLLATE NOCASE))": {},
    "CREATE TABLE t (a TEXT, b TEXT, -- , c COLLATE x\n UNIQUE (a COLLATE NOCASE, b))": {},
}


@pytest.mark.parametrize("ddl", list(DEFINITIONS))
def test_what_tables_tell(ddl: str) -> None:
    """Columns, and nothing else that is written there."""
    engine = create_engine("sqlite://", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(ddl)
        assert collations(connection, Table("T", MetaData())) == DEFINITIONS[ddl]


# -- tables of two databases --------------------------------------------------------------------


class Pair(DeclarativeBase):
    """Base of the models that are joined."""


class Left(Pair):
    """Words in one database."""

    __tablename__ = "lefts"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    word: Mapped[str] = mapped_column(String(10))


class Right(Pair):
    """Words in another one."""

    __tablename__ = "rights"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    word: Mapped[str] = mapped_column(String(10))


EXACTLY = {"mariadb": "utf8mb4_nopad_bin", "postgresql": '"POSIX"', "sqlite": "BINARY"}
LOOSELY = {"mariadb": "utf8mb4_unicode_520_ci", "postgresql": '"C"', "sqlite": "NOCASE"}


@pytest.mark.parametrize("how", [EXACTLY, LOOSELY], ids=["exactly", "loosely"])
def test_joined_databases(make_databases: MakeDatabases, dialect: str, how: dict[str, str]) -> None:
    """A copy beside a permanent table compares text as its own database does."""
    *urls, single = make_databases(dialect, 3)
    data = {
        "version": 1,
        "databases": {f"d{at}": {"url": url} for at, url in enumerate(urls)},
        "keyspaces": {"left": {"database": "d0"}, "right": {"database": "d1"}},
        "binds": {"tables": {"lefts": "left", "rights": "right"}},
        "transactions": {"two_phase": False},
    }
    engine = create_engine(single)
    with Router.from_dict(data, metadata=Pair.metadata) as router:
        homes = [(router.engines["d0"], Left), (router.engines["d1"], Right)]
        for one, model in [*homes, (engine, Left), (engine, Right)]:
            with one.begin() as connection:
                connection.exec_driver_sql(
                    f"CREATE TABLE {model.__tablename__} (id INTEGER PRIMARY KEY, "
                    f"word VARCHAR(10) COLLATE {how[dialect]})"
                )
                rows = [{"id": at, "word": word} for at, word in enumerate(WORDS)]
                connection.execute(model.__table__.insert(), rows)  # type: ignore[attr-defined]
        for column in (Left.word, Right.word):
            joined = select(func.count(), func.min(Left.id)).join(Right, Left.id == Right.id)
            statement = joined.select_from(Left).group_by(column).order_by(func.min(Left.id))
            routed, plain = both((router, engine), statement)
            assert routed == plain
    engine.dispose()
