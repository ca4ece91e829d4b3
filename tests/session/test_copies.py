"""Reference tables: equal rows on every copy, or no commit."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic_ns
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from router import CrossShardError, Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.conftest import watch


class Base(DeclarativeBase):
    """Base of the models."""


pairs = Table(
    "pairs",
    Base.metadata,
    Column("left_id", ForeignKey("units.id"), primary_key=True),
    Column("right_id", ForeignKey("units.id"), primary_key=True),
)


class Unit(Base):
    """Values from every source there is."""

    __tablename__ = "units"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    made: Mapped[str] = mapped_column(String(40), default=lambda: str(monotonic_ns()))
    seen: Mapped[str | None] = mapped_column(String(40), onupdate=lambda: str(monotonic_ns()))
    number: Mapped[int] = mapped_column(server_default=text("7"))
    partners: Mapped[list[Unit]] = relationship(
        secondary=pairs,
        primaryjoin=lambda: Unit.id == pairs.c.left_id,
        secondaryjoin=lambda: Unit.id == pairs.c.right_id,
    )


class Simple(Base):
    """Nothing is generated."""

    __tablename__ = "simple"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(20))


@pytest.fixture
def copies(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """Reference tables over two databases."""
    with open_copies(make_databases(dialect, 2)) as router:
        yield router


def open_copies(urls: list[str], names: tuple[str, ...] = ("units", "pairs", "simple")) -> Router:
    """Return a router whose reference tables are `names`; others live in the first database."""
    data: dict[str, Any] = {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            "main": {"database": "d0"},
            "all": {
                "shards": {f"s{number}": f"d{number}" for number in range(len(urls))},
                "sharding": {"function": "modulo"},
                "reference_tables": list(names),
            },
        },
        "binds": {"default": "main"},
        "transactions": {"two_phase": not urls[0].startswith("sqlite")},
    }
    router = Router.from_dict(data, metadata=Base.metadata)
    router.create_all()
    return router


def equal_rows(router: Router, table: str) -> list[tuple[object, ...]]:
    """Return the rows of the copies, which are equal."""
    found = []
    for engine in router.engines.values():
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2"))
            found.append([tuple(row) for row in rows])
    assert found[0] == found[1]
    return found[0]


def test_flushed_rows_are_equal(copies: Router) -> None:
    """Serial keys, server and Python defaults, onupdate, SQL expressions, associations."""
    make = copies.sessionmaker()
    with make.begin() as session:
        units = [Unit(code=f"u{number}") for number in range(4)]
        units[0].partners = [units[1], units[2]]
        session.add_all(units)
    assert len(equal_rows(copies, "units")) == 4
    assert len(equal_rows(copies, "pairs")) == 2
    with make.begin() as session:
        units = list(session.scalars(select(Unit).order_by(Unit.id)))
        units[0].code = func.upper(Unit.code)  # type: ignore[assignment]
        units[0].partners = [units[3]]
        session.delete(units[1])
    assert [row[1] for row in equal_rows(copies, "units")] == ["U0", "u2", "u3"]
    assert len(equal_rows(copies, "pairs")) == 1


def test_an_unchanged_object_is_not_copied(copies: Router) -> None:
    """Setting an attribute to its own value writes nothing anywhere."""
    with copies.sessionmaker().begin() as session:
        session.add(Simple(id=1, name="a"))
    with copies.sessionmaker().begin() as session:
        one = session.get(Simple, 1)
        assert one is not None
        one.name = "a"
    assert equal_rows(copies, "simple") == [(1, "a")]


def test_primary_keys_of_reference_rows_may_change(copies: Router) -> None:
    """They place nothing."""
    with copies.sessionmaker().begin() as session:
        session.add(Simple(id=1, name="a"))
        session.flush()
        session.scalars(select(Simple)).one().id = 2
    assert equal_rows(copies, "simple") == [(2, "a")]


def test_core_writes_reach_every_copy(copies: Router) -> None:
    """INSERT of plain values, UPDATE and DELETE, one row or many."""
    with copies.sessionmaker().begin() as session:
        session.execute(insert(Simple).values(id=1, name="a"))
        session.execute(insert(Simple), [{"id": 2, "name": "b"}, {"id": 3, "name": "c"}])
        session.execute(insert(Simple.__table__), [{"id": 4, "name": "d"}])
        loaded = session.get(Simple, 1)
        assert loaded is not None
        result = session.execute(update(Simple).where(Simple.id < 3).values(name=Simple.name + "!"))
        assert result.rowcount == 2  # type: ignore[attr-defined]
        assert loaded.name == "a!"
        session.execute(delete(Simple).where(Simple.id == 4))
    assert equal_rows(copies, "simple") == [(1, "a!"), (2, "b!"), (3, "c")]


DIFFERENT = {
    "serial key": insert(Unit).values(code="x", made="", number=1),
    "default": insert(Unit).values(id=1, code="x", number=1),
    "server default": insert(Unit).values(id=1, code="x", made=""),
    "expression": insert(Simple).values(id=1, name=func.random()),
    "onupdate": update(Unit).values(code="x"),
    "random": update(Simple).values(name=func.random()),
    "now": update(Simple).values(name=func.now()),
    "where": delete(Simple).where(Simple.name < func.random()),
    "text": update(Simple).values(name=text("random()")),
    "subquery": update(Simple).values(name=select(func.max(Unit.code)).scalar_subquery()),
    "from select": insert(Unit).from_select(["code", "made"], select(Simple.name, Simple.name)),
}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", DIFFERENT)
def test_values_that_could_differ_are_refused(copies: Router, how: str) -> None:
    """Whatever each copy would compute for itself; nothing is written."""
    with copies.sessionmaker()() as session:
        with pytest.raises(CrossShardError, match=r"R30[58]|R304"):
            session.execute(DIFFERENT[how])
        session.commit()
    assert equal_rows(copies, "units") == equal_rows(copies, "simple") == []


def differ(router: Router) -> None:
    """Give the copies different rows."""
    with router.sessionmaker().begin() as session:
        session.add_all([Simple(id=1, name="a"), Simple(id=2, name="b")])
    with router.engines["d1"].begin() as connection:
        connection.execute(text("DELETE FROM simple WHERE id = 2"))


def change_by_core(session: Session) -> None:
    """Change a row that one copy does not have."""
    session.execute(update(Simple).values(name="new"))


def change_by_flush(session: Session) -> None:
    """Change a row that one copy does not have."""
    session.get(Simple, 2).name = "new"  # type: ignore[union-attr]
    session.flush()


@pytest.mark.parametrize("change", [change_by_core, change_by_flush])
def test_different_copies_cannot_be_committed(copies: Router, change: Any) -> None:
    """The error may be caught, but the transaction does not commit."""
    differ(copies)
    with copies.sessionmaker()() as session:
        with pytest.raises(CrossShardError, match="R307"):
            change(session)
        with pytest.raises(Exception, match=r"R307|rolled back"):
            session.commit()
        session.rollback()
        assert session.scalars(select(Simple.name).where(Simple.id == 1)).one() == "a"
    for engine in copies.engines.values():
        with engine.connect() as connection:
            names = connection.execute(text("SELECT name FROM simple WHERE id = 1"))
            assert names.scalar_one() == "a"


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_a_savepoint_makes_it_whole_again(copies: Router) -> None:
    """What was torn inside a savepoint is gone with it."""
    differ(copies)
    with copies.sessionmaker().begin() as session:
        session.add(Simple(id=5, name="kept"))
        session.flush()
        with pytest.raises(CrossShardError, match="R307"), session.begin_nested():
            change_by_core(session)
        savepoint = session.begin_nested()
        with pytest.raises(CrossShardError, match="R307"):
            change_by_core(session)
        with pytest.raises(CrossShardError, match="R307"):
            savepoint.commit()
    for engine in copies.engines.values():
        with engine.connect() as connection:
            names = connection.execute(text("SELECT name FROM simple ORDER BY id")).scalars()
            assert set(names) <= {"a", "b", "kept"}


def test_a_copy_that_refuses_a_row(copies: Router) -> None:
    """A row that only the second copy refuses is on no copy in the end."""
    with copies.engines["d1"].begin() as connection:
        connection.execute(text("INSERT INTO simple VALUES (1, 'stray')"))
    with copies.sessionmaker()() as session:
        with pytest.raises(IntegrityError):
            session.execute(insert(Simple).values(id=1, name="a"))
        with pytest.raises(CrossShardError, match="R307"):
            session.commit()
    with copies.engines["d0"].connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM simple")).scalar_one() == 0


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_an_error_before_anything_was_written_is_harmless(copies: Router) -> None:
    """As with one database, the transaction can go on."""
    with copies.sessionmaker()() as session:
        session.execute(insert(Simple).values(id=1, name="a"))
        with pytest.raises(IntegrityError):
            session.execute(insert(Simple).values(id=1, name="again"))
        session.execute(insert(Simple).values(id=2, name="b"))
        session.commit()
    assert len(equal_rows(copies, "simple")) == 2


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_bulk_operations_are_refused(copies: Router) -> None:
    """They would write one copy only."""
    with copies.sessionmaker()() as session:
        for refused in (
            lambda: session.bulk_insert_mappings(Simple, [{"id": 1, "name": "a"}]),
            lambda: session.bulk_update_mappings(Simple, [{"id": 1, "name": "a"}]),
            lambda: session.bulk_save_objects([Simple(id=1, name="a")]),
        ):
            with pytest.raises(CrossShardError, match="R308"):
                refused()
        with pytest.raises((CrossShardError, RoutingError), match=r"R30[58]"):
            session.execute(
                insert(Simple).values(id=1, name="a"), bind_arguments={"shard": "all/s1"}
            )
    assert equal_rows(copies, "simple") == []


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_two_maps_of_one_model(copies: Router, make_databases: MakeDatabases) -> None:
    """A model that is a reference table in one map can be an ordinary one in another."""
    with copies.sessionmaker().begin() as session:
        session.add(Simple(id=1, name="a"))
    with open_copies(make_databases("sqlite", 2), names=("units", "pairs")) as other:
        with other.sessionmaker().begin() as session:
            session.add(Simple(id=2, name="b"))
            session.flush()
            session.get(Simple, 2).name = "c"  # type: ignore[union-attr]
        with other.engines["d0"].connect() as connection:
            assert connection.execute(text("SELECT name FROM simple")).scalar_one() == "c"


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_collections_of_reference_rows_write_no_copy(copies: Router) -> None:
    """An object whose collection alone changed is not written."""
    with copies.sessionmaker().begin() as session:
        session.add_all([Unit(code="a"), Unit(code="b")])
    with copies.sessionmaker().begin() as session:
        one, two = session.scalars(select(Unit).order_by(Unit.id))
        sent = watch(copies)
        one.partners.append(two)
        session.flush()
        assert not sent.count("UPDATE")
    assert len(equal_rows(copies, "pairs")) == 1


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_handlers_see_one_insert(copies: Router) -> None:
    """Events of the model fire once for each row, not for each copy."""
    seen: list[object] = []

    def note(mapper: object, connection: object, target: object) -> None:
        seen.append(target)

    event.listen(Simple, "after_insert", note)
    try:
        with copies.sessionmaker().begin() as session:
            session.add(Simple(id=1, name="a"))
    finally:
        event.remove(Simple, "after_insert", note)
    assert len(seen) == 1
