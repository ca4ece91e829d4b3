"""Unique keys over all shards: kept by every kind of write, used to find rows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.attributes import set_committed_value

from router import CrossShardError, Router, RoutingError
from router.lookups import MARKS
from router.testing import record
from tests.conftest import MakeDatabases


class Base(DeclarativeBase):
    """Base of the models."""


class Person(Base):
    """The primary key is the shard key; emails are unique, and pairs of club and number."""

    __tablename__ = "persons"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str | None] = mapped_column("mail", String(60))
    club: Mapped[int | None]
    number: Mapped[int | None] = mapped_column(default=lambda: None)
    name: Mapped[str] = mapped_column(String(40), default="nobody")
    books: Mapped[list[Book]] = relationship(cascade="all, delete-orphan")


class Book(Base):
    """The primary key does not contain the shard key."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    person_id: Mapped[int] = mapped_column(ForeignKey("persons.id"))
    isbn: Mapped[str] = mapped_column(String(20))


class Pair(Base):
    """Has no unique key."""

    __tablename__ = "pairs"

    person_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    other: Mapped[int | None]


@pytest.fixture
def people(make_databases: MakeDatabases, dialect: str) -> Iterator[Router]:
    """A router over four shards, and a database for the lookup tables."""
    main, *shards = make_databases(dialect, 5)
    data: dict[str, Any] = {
        "version": 1,
        "databases": {"main": {"url": main}, **{f"d{n}": {"url": u} for n, u in enumerate(shards)}},
        "keyspaces": {
            "lookups": {"database": "main"},
            "people": {
                "shards": {f"s{n}": f"d{n}" for n in range(4)},
                "sharding": {"function": "modulo"},
                "tables": {"persons": "id", "books": "person_id", "pairs": "person_id"},
            },
        },
        "unique": {
            "email": {"table": "persons", "columns": "mail", "keyspace": "lookups"},
            "member": {"table": "persons", "columns": ["club", "number"], "keyspace": "lookups"},
            "isbn": {"table": "books", "columns": "isbn", "keyspace": "lookups"},
        },
    }
    if main.startswith("sqlite"):
        data["transactions"] = {"two_phase": False}
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        with router.sessionmaker().begin() as session:
            for key in range(8):
                books = [Book(id=key // 2, isbn=f"i{key}")]
                person = Person(id=key, email=f"e{key}", club=1, number=key, books=books)
                session.add(person)
        yield router
        router.drop_all()


def looked_up(router: Router, name: str = "email") -> set[tuple[Any, ...]]:
    """Return the rows of a lookup table."""
    with router.engines["main"].connect() as connection:
        rows = connection.execute(text(f"SELECT * FROM router_unique_{name}"))
        return {tuple(row) for row in rows}


def rows(router: Router) -> set[tuple[Any, ...]]:
    """Return what the lookup table of emails should have."""
    with router.sessionmaker()() as session:
        found = session.execute(select(Person.email, Person.id).where(Person.email.is_not(None)))
        return {tuple(row) for row in found}


def reached(router: Router, session: Session, statement: Any) -> tuple[list[Any], int]:
    """Return what a statement gives, and how many shards it was sent to."""
    with record(router) as seen:
        found = list(session.scalars(statement))
    return found, len({*seen.databases} - {"main"})


# -- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criteria", "ids", "shards"),
    [
        (Person.email == "e5", [5], 1),
        (Person.email == "nobody's", [], 1),
        (Person.email.in_(["e1", "e5"]), [1, 5], 1),
        (Person.email.in_(["e1", "e2"]), [1, 2], 2),
        ((Person.club == 1) & (Person.number == 6), [6], 1),
        (Person.club == 1, list(range(8)), 4),
        ((Person.email == "e5") & (Person.id == 4), [], 1),
        ((Person.email == "e5") | (Person.email == "e6"), [5, 6], 2),
        ((Person.email == "e5") | (Person.name == "x"), [5], 4),
        (Person.email > "e6", [7], 4),
    ],
)
def test_a_unique_key_names_the_shard(
    people: Router, criteria: Any, ids: list[int], shards: int
) -> None:
    """Whatever the lookup table can tell, is used; all else asks every shard."""
    with people.sessionmaker()() as session:
        statement = select(Person.id).where(criteria).order_by(Person.id)
        assert reached(people, session, statement) == (ids, shards)


def test_pending_rows_are_found(people: Router) -> None:
    """A read flushes first, as ever, before the lookup table is asked."""
    with people.sessionmaker()() as session:
        session.add(Person(id=9, email="new"))
        assert session.scalars(select(Person).where(Person.email == "new")).one().id == 9
        session.get_one(Person, 9).email = "newer"
        with session.no_autoflush:
            assert session.scalars(select(Person.id).where(Person.email == "new")).all() == [9]
        assert session.scalars(select(Person.id).where(Person.email == "new")).all() == []
        assert session.scalars(select(Person.id).where(Person.email == "newer")).all() == [9]


def test_explain_looks_nothing_up(people: Router) -> None:
    """It executes nothing, so that it does not know the shard."""
    with record(people) as seen:
        plan = people.explain(select(Person).where(Person.email == "e5"))
    assert len(plan.statements) == 4
    assert not seen.statements


# -- the unit of work --------------------------------------------------------------------------


def test_no_value_twice(people: Router) -> None:
    """Whatever its shard, a second row with the same values is refused, wherever it differs."""
    make = people.sessionmaker()
    for other in (
        Person(id=20, email="e3"),
        Person(id=21, email="other", club=1, number=3),
        Person(id=22, email="other", books=[Book(id=99, isbn="i3")]),
    ):
        with make() as session:
            session.add(other)
            with pytest.raises(IntegrityError):
                session.commit()
    assert looked_up(people) == rows(people)
    with make() as session:
        person = session.get_one(Person, 1)
        person.email = "e2"
        with pytest.raises(IntegrityError):
            session.flush()
    with make.begin() as session:
        session.add_all([Person(id=20), Person(id=21, club=1), Person(id=22, club=1)])
    assert looked_up(people) == rows(people)
    assert len(looked_up(people, "member")) == 8


def test_changes_and_deletions(people: Router) -> None:
    """A value is free again when its row has another one or is gone."""
    make = people.sessionmaker()
    with make.begin() as session:
        session.get_one(Person, 1).email = "changed"
        session.get_one(Person, 2).email = None
        session.get_one(Person, 3).email = func.upper("computed")
        session.delete(session.get_one(Person, 4))
        fifth = session.get_one(Person, 5)
        fifth.books = []
    assert looked_up(people) == rows(people)
    assert {row[0] for row in looked_up(people, "isbn")} == {f"i{n}" for n in (0, 1, 2, 3, 6, 7)}
    with make.begin() as session:
        session.add_all([Person(id=31, email="e1"), Person(id=32, email="e2")])
        session.add(Person(id=33, email="e4", club=1, number=4))
        sixth = session.get_one(Person, 6)
        sixth.books.append(Book(id=50, isbn="i5"))
        ids = select(Person.id).where(Person.email.in_(["COMPUTED", "e4"])).order_by(Person.id)
        assert session.scalars(ids).all() == [3, 33]


def test_the_order_of_one_flush(people: Router) -> None:
    """What one database takes in its order is taken; what it refuses is refused."""
    make = people.sessionmaker()
    with make.begin() as session, session.no_autoflush:
        session.add(Person(id=21, email="e1"))
        session.get_one(Person, 1).email = "freed"
    assert looked_up(people) == rows(people)
    with make.begin() as session, session.no_autoflush:
        # By primary key: the second value is free when it is taken.
        session.get_one(Person, 5).email = "e4"
        session.get_one(Person, 4).email = "other"
    assert looked_up(people) == rows(people)
    with make() as session, session.no_autoflush:
        session.get_one(Person, 7).email = "last"
        session.get_one(Person, 6).email = "e7"
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        session.delete(session.get_one(Person, 6))
        session.add(Person(id=26, email="e6"))
        with pytest.raises(IntegrityError):
            session.flush()
    assert looked_up(people) == rows(people)


@pytest.mark.parametrize("email", ["e1", "another", None])
def test_a_row_in_the_place_of_another(people: Router, email: str | None) -> None:
    """A deleted object and a new one with its primary key are one UPDATE."""
    with people.sessionmaker().begin() as session:
        old = session.get_one(Person, 1)
        old.books = []
        session.flush()
        session.delete(old)
        session.add(Person(id=1, email=email, name="new"))
    assert looked_up(people) == rows(people)
    # What the new object does not say stays as it was.
    assert looked_up(people, "member") == {(1, n, n) for n in range(8)}
    with people.sessionmaker()() as session:
        assert session.get_one(Person, 1).club == 1


def test_a_value_that_only_looks_changed(people: Router) -> None:
    """What an UPDATE does not set is as another transaction has left it."""
    make = people.sessionmaker()
    with make() as first:
        person = first.get_one(Person, 1)
        assert (person.email, person.club) == ("e1", 1)
        first.commit()
        assert (person.email, person.club) == ("e1", 1)
        # The database's lock would make the other wait; what was loaded stays as it is.
        values = dict(person.__dict__)
        first.rollback()
        with make.begin() as second:
            other = second.get_one(Person, 1)
            other.email, other.club = "theirs", 5
        set_committed_value(person, "email", values["email"])
        set_committed_value(person, "club", values["club"])
        set_committed_value(person, "number", 1)
        person.email, person.name, person.number = "e1", "changed", 77
        first.commit()
    assert looked_up(people) == rows(people)
    assert (5, 77, 1) in looked_up(people, "member")
    with make() as session:
        assert session.scalars(select(Person.id).where(Person.email == "theirs")).all() == [1]


def test_a_new_row_in_the_place_of_one_that_moves(people: Router) -> None:
    """It would be there before the old one is gone: refused, with the remedy."""
    with people.sessionmaker()() as session:
        person = session.get_one(Person, 1)
        person.books = []
        session.flush()
        person.id = 10
        session.add(Person(id=1, email="new"))
        with pytest.raises(RoutingError, match=r"R203 a new Person has the primary key \(1,\)"):
            session.flush()
        session.rollback()
        person = session.get_one(Person, 1)
        person.books = []
        person.id = 10
        session.flush()
        session.add(Person(id=1, email="new"))
        session.commit()
    assert looked_up(people) == rows(people)


def test_an_expired_row_is_deleted(people: Router) -> None:
    """What names it is loaded in time."""
    make = people.sessionmaker()
    with make.begin() as session:
        book = session.scalars(select(Book).where(Book.isbn == "i5")).one()
        session.expire(book)
        session.delete(book)
    assert "i5" not in {row[0] for row in looked_up(people, "isbn")}
    assert len(looked_up(people, "isbn")) == 7


def test_a_row_that_moves(people: Router) -> None:
    """The lookup table learns its new shard key."""
    with people.sessionmaker().begin() as session:
        person = session.get_one(Person, 7)
        person.books = []
        person.id = 10
    assert looked_up(people) == rows(people)
    with people.sessionmaker()() as session:
        by_email = select(Person.id).where(Person.email == "e7")
        assert reached(people, session, by_email) == ([10], 1)


def test_a_rollback_takes_values_back(people: Router) -> None:
    """Lookup tables are written in the transaction of the rows, and in its savepoints."""
    before = looked_up(people)
    with people.sessionmaker()() as session:
        session.add(Person(id=40, email="e40"))
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Person(id=41, email="e40"))
        assert session.scalars(select(Person.id).where(Person.email == "e40")).all() == [40]
        session.rollback()
    assert looked_up(people) == before


# -- statements --------------------------------------------------------------------------------


def test_inserts(people: Router) -> None:
    """Of one row or many, by the ORM or by Core, with defaults of Python."""
    table: Any = Person.__table__
    new = [{"id": key, "email": f"n{key}"} for key in (50, 51, 52)]
    with people.sessionmaker().begin() as session:
        session.execute(insert(Person), new)
        session.execute(insert(Person).values(id=53, email="n53"))
        session.execute(insert(table).values([{"id": 54, "mail": "n54"}, {"id": 55}]))
        session.execute(insert(table), {"id": 56, "mail": "n56", "club": 2, "number": 1})
    assert looked_up(people) == rows(people)
    with people.sessionmaker()() as session:
        with pytest.raises(IntegrityError):
            session.execute(insert(Person), [{"id": 60, "email": "n60"}, {"id": 61, "email": "e1"}])
        session.rollback()
        with pytest.raises(IntegrityError):
            session.execute(insert(table).values(id=62, club=2, number=1))
    assert looked_up(people) == rows(people)


def test_an_insert_of_what_is_selected(people: Router) -> None:
    """The rows are read first, wherever they stay, so that their values are known."""
    books = select(Book.person_id + 100, Book.isbn)
    same = select(Person.id, Person.email).where(Person.id.in_([6, 7]))
    with people.sessionmaker().begin() as session:
        session.execute(insert(Person).from_select(["id", "mail"], books))
        session.execute(delete(Book).where(Book.person_id > 5))
        session.execute(
            insert(Book).from_select(["person_id", "isbn", "id"], same.add_columns(literal(9)))
        )
    assert looked_up(people) == rows(people)
    assert len(looked_up(people)) == 16
    assert {row[0] for row in looked_up(people, "isbn")} > {"e6", "e7"}


def test_updates(people: Router) -> None:
    """Their rows are found first; values may be computed."""
    with people.sessionmaker().begin() as session:
        session.execute(update(Person).where(Person.id == 1).values(email="u1"))
        session.execute(update(Person).where(Person.email == "e2").values(email="u2"))
        many = update(Person).where(Person.id > 5)
        assert session.execute(many.values(email=func.upper(Person.email))).rowcount == 2
        session.execute(update(Person).where(Person.id == 3).values(email=None))
        session.execute(update(Person), [{"id": 4, "email": "u4"}, {"id": 5, "name": "same"}])
    assert looked_up(people) == rows(people)
    assert {row[0] for row in looked_up(people)} >= {"u1", "u2", "u4", "e5", "E6", "E7"}
    with people.sessionmaker()() as session, pytest.raises(IntegrityError):
        session.execute(update(Person).where(Person.id == 1).values(email="u2"))


def test_updates_in_their_order(people: Router) -> None:
    """Rows of parameters one after another; those of one statement together."""
    make = people.sessionmaker()
    with make.begin() as session:
        session.execute(update(Person), [{"id": 1, "email": "x"}, {"id": 4, "email": "e1"}])
        session.execute(delete(Book).where(Book.person_id == 0))
        session.execute(delete(Person).where(Person.id == 0))
        session.execute(update(Person).values(number=Person.number - 1))
    assert looked_up(people) == rows(people)
    assert (1, 6, 7) in looked_up(people, "member")
    with make() as session:
        wrong = [{"id": 2, "email": "e3"}, {"id": 3, "email": "y"}]
        with pytest.raises(IntegrityError):
            session.execute(update(Person), wrong)


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.execute(update(Person).where(Person.id == 1).values(email="e2")),
        lambda s: s.execute(update(Person), [{"id": 1, "email": "e2"}]),
    ],
)
def test_an_update_that_fails_is_not_half_done(people: Router, write: Any) -> None:
    """The row was written, but its value was taken: the transaction cannot commit."""
    before = rows(people)
    with people.sessionmaker()() as session:
        with pytest.raises(IntegrityError):
            write(session)
        with pytest.raises(CrossShardError, match="R311"):
            session.commit()
        session.rollback()
        with pytest.raises(IntegrityError), session.begin_nested():
            write(session)
        session.commit()
    assert rows(people) == looked_up(people) == before


def test_other_updates_are_not_touched(people: Router) -> None:
    """An UPDATE of other columns goes to its shards at once."""
    statement = update(Person).where(Person.name == "nobody").values(name="somebody")
    with people.sessionmaker().begin() as session, record(people) as seen:
        assert session.execute(statement).rowcount == 8
    assert [one.database for one in seen.statements if "UPDATE" in one.statement] == [
        "d0",
        "d1",
        "d2",
        "d3",
    ]
    assert "main" not in seen.databases


def test_deletes(people: Router) -> None:
    """The values of rows that are deleted are free again."""
    with people.sessionmaker().begin() as session:
        session.execute(delete(Book).where(Book.isbn.in_(["i1", "i6"])))
        session.execute(delete(Book).where(Book.id == 2, Book.person_id == 4))
        session.execute(delete(Person).where(Person.id == 6))
    assert looked_up(people) == rows(people)
    left = {row[0] for row in looked_up(people, "isbn")}
    assert left == {"i0", "i2", "i3", "i5", "i7"}


def test_what_cannot_be_followed(people: Router) -> None:
    """It is refused before anything is written."""
    table: Any = Person.__table__
    refused = [
        lambda s: s.execute(insert(Person).values(id=70, email=func.lower("X"))),
        lambda s: s.execute(update(table), [{"mail": "x"}]),
        lambda s: s.execute(
            text("UPDATE persons SET mail = 'x'"),
            bind_arguments={"keyspace": "people", "shard_key": 1},
        ),
        lambda s: s.bulk_insert_mappings(Person, [{"id": 71, "email": "x"}]),
        lambda s: s.bulk_save_objects([Person(id=72)]),
        lambda s: s.bulk_update_mappings(Person, [{"id": 1, "email": "x"}]),
    ]
    texts = [
        "UPDATE PERSONS SET mail = 'x'",
        "DELETE FROM books;",
        "UPDATE persons,(SELECT 1) t SET mail = 'x'",
        "WITH u AS (UPDATE persons SET mail = 'x' RETURNING id) SELECT id FROM u",
        'INSERT INTO "persons" (id) VALUES (9)',
    ]
    hint = {"keyspace": "people", "shard_key": 1}
    refused += [lambda s, sql=sql: s.execute(text(sql), bind_arguments=hint) for sql in texts]
    changed = update(Person).values(email="x").returning(Person.id).cte()
    refused += [
        lambda s: s.execute(select(changed.c.id), bind_arguments=hint),
        lambda s: s.execute(
            select(Person).from_statement(update(Person).values(email="x").returning(Person)),
            bind_arguments=hint,
        ),
        lambda s: s.execute(insert(Person).prefix_with("OR REPLACE").values(id=1, email="x")),
        lambda s: s.execute(insert(Person).prefix_with("IGNORE").values(id=1, email="x")),
    ]
    before = looked_up(people), rows(people)
    with people.sessionmaker()() as session:
        for write in refused:
            with pytest.raises(CrossShardError, match="R313"):
                write(session)
        loaded = update(Person).where(Person.id == 1).values(email="x").returning(Person)
        with pytest.raises(CrossShardError, match="R305"):
            session.execute(select(Person).from_statement(loaded))
        session.commit()
        reads = "SELECT mail FROM persons WHERE id = 1 FOR UPDATE"
        if people.engines["main"].dialect.name != "sqlite":
            assert session.scalars(text(reads), bind_arguments=hint).all() == ["e1"]
        count = text("SELECT count(*) FROM books")
        assert session.scalar(count, bind_arguments=hint) == 2
    assert (looked_up(people), rows(people)) == before


def test_writes_of_other_tables_are_let_through(people: Router) -> None:
    """Also those that are put together in other ways, where the caller says where they go."""
    pairs: Any = Pair.__table__
    hint = {"keyspace": "people", "shard_key": 1}
    with people.sessionmaker().begin() as session:
        session.execute(text("INSERT INTO pairs (person_id) VALUES (1)"), bind_arguments=hint)
        if people.engines["main"].dialect.name != "mysql":
            changed = update(Pair).values(other=2).returning(Pair)
            found = session.scalars(select(Pair).from_statement(changed), bind_arguments=hint)
            assert [one.other for one in found] == [2]
        assert session.execute(select(func.count()).select_from(pairs)).scalar() == 1


def test_a_failed_insert_is_not_half_done(people: Router) -> None:
    """The value was taken, but the row is not there: the transaction cannot commit."""
    with people.sessionmaker()() as session:
        with pytest.raises(IntegrityError):
            session.execute(insert(Person), [{"id": 1, "email": "fresh"}])
        with pytest.raises(CrossShardError, match="R311"):
            session.commit()
        session.rollback()
    assert looked_up(people) == rows(people)


# -- lookup tables of tables that have rows ----------------------------------------------------


@pytest.fixture
def late(people: Router) -> Router:
    """The same, where the entry of emails came after the rows."""
    people.engines["main"].dispose()
    with people.engines["main"].begin() as connection:
        connection.execute(text("DELETE FROM router_unique_email"))
        connection.execute(MARKS.update().where(MARKS.c.name == "email").values(complete=False))
    people.wiring.lookups.__init__(people.engines)  # type: ignore[misc]
    return people


def test_an_incomplete_lookup_table_is_not_used(late: Router) -> None:
    """Rows are found on all shards; new ones are added, and old ones when they change."""
    with late.sessionmaker().begin() as session:
        statement = select(Person.id).where(Person.email == "e5")
        assert reached(late, session, statement) == ([5], 4)
        session.add(Person(id=20, email="new"))
        session.get_one(Person, 1).email = "changed"
    assert looked_up(late) == {("new", 20), ("changed", 1)}
    assert [one.id for one in late.check() if one.id == "R710"] == ["R710"]
    assert late.verify_unique("email").wrong == 7


def test_backfill(late: Router) -> None:
    """What lacks is added, and then rows are found by it; a second run adds nothing."""
    report = late.backfill_unique("email")
    assert (report.rows, report.added, report.wrong) == (8, 8, 0)
    assert looked_up(late) == rows(late)
    with late.sessionmaker()() as session:
        statement = select(Person.id).where(Person.email == "e5")
        assert reached(late, session, statement) == ([5], 1)
    report = late.backfill_unique("email")
    assert (report.rows, report.added, report.wrong) == (8, 0, 0)
    assert late.verify_unique("email").wrong == 0


def test_backfill_of_rows_that_are_not_unique(late: Router) -> None:
    """They are named, and the lookup table stays out of use until they are not."""
    table: Any = Person.__table__
    with late.engines["d3"].begin() as connection:
        connection.execute(table.update().where(table.c.id == 7).values(mail="e0"))
    report = late.backfill_unique("email")
    assert (report.added, report.wrong) == (7, 1)
    assert "e0" in report.differences[0]
    with late.sessionmaker().begin() as session:
        statement = select(Person.id).where(Person.email == "e5")
        assert reached(late, session, statement) == ([5], 4)
        session.get_one(Person, 7).email = "e7"
    assert late.backfill_unique("email").wrong == 0


def test_verify(people: Router) -> None:
    """Rows that are missing or differ, and entries without a row, are named."""
    assert people.verify_unique("isbn").wrong == 0
    with people.engines["main"].begin() as connection:
        connection.execute(text("DELETE FROM router_unique_isbn WHERE isbn = 'i1'"))
        connection.execute(text("UPDATE router_unique_isbn SET isbn = 'x' WHERE isbn = 'i2'"))
    report = people.verify_unique("isbn")
    assert (report.rows, report.wrong) == (8, 3)
    assert sum("i1" in one for one in report.differences) == 1
    assert sum("'x'" in one for one in report.differences) == 1


def test_many_pages(people: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are looked at a page at a time, each once."""
    monkeypatch.setattr("router.backfill.ROWS", 1)
    assert people.verify_unique("isbn").rows == 8
    assert people.verify_unique("member").wrong == 0


def test_no_such_key(people: Router) -> None:
    """The error names those that there are."""
    with pytest.raises(RoutingError, match="R212 there is no unique key 'x'; the map has email"):
        people.verify_unique("x")


def test_a_missing_lookup_table(people: Router) -> None:
    """It is told as such, not as an error of the database."""
    people.wiring.lookups.__init__(people.engines)  # type: ignore[misc]
    with people.engines["main"].begin() as connection:
        connection.execute(text("DROP TABLE router_unique"))
    with people.sessionmaker()() as session, pytest.raises(RoutingError, match="R211"):
        session.scalars(select(Person).where(Person.email == "e5"))
    assert [one.id for one in people.check() if one.id == "R211"] == ["R211"] * 3


def test_asyncio(people: Router) -> None:
    """Sessions of asyncio keep and use the same lookup tables."""

    async def work() -> None:
        make = people.async_sessionmaker()
        async with make.begin() as session:
            session.add(Person(id=80, email="async"))
            found = await session.scalars(select(Person.id).where(Person.email == "async"))
            assert found.all() == [80]
            await session.execute(delete(Person).where(Person.email == "async"))
        async with make() as session:
            session.add(Person(id=81, email="e1"))
            with pytest.raises(IntegrityError):
                await session.flush()
        await people.aclose()

    asyncio.run(work())
    assert looked_up(people) == rows(people)


def test_check_reports_what_only_shards_enforce(make_databases: MakeDatabases) -> None:
    """A unique constraint without the shard key, for which the map has no entry."""
    table = Table(
        "seats",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("row", Integer, unique=True),
        Column("place", Integer),
        UniqueConstraint("id", "place"),
        Index("seats_place", "place", unique=True),
    )
    data = {
        "version": 1,
        "databases": {"d": {"url": make_databases("sqlite", 1)[0]}},
        "keyspaces": {
            "hall": {
                "shards": {"s": "d"},
                "sharding": {"function": "modulo"},
                "tables": {"seats": "id"},
            }
        },
    }
    with Router.from_dict(data, metadata=table.metadata) as router:
        router.create_all()
        found = [one.what for one in router.check() if one.id == "R709"]
    assert len(found) == 2
    assert any("that place is unique" in one for one in found)
    assert any("that row is unique" in one for one in found)
