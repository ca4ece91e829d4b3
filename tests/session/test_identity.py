"""One row, one object: identities of rows that carry their shard, and of those that do not."""

from __future__ import annotations

import pickle

import pytest
from sqlalchemy import ForeignKey, insert, inspect, lambda_stmt, select, text, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    immediateload,
    joinedload,
    make_transient,
    make_transient_to_detached,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

from router import CrossShardError, Router, RoutingError, on_shard
from tests.conftest import MakeDatabases
from tests.session.conftest import watch
from tests.session.shop import Account, Country, Customer, Line, Note, Order


@pytest.fixture
def full(lite: Router) -> Router:
    """Customers 0 to 2 on a shard each, every one with a note of the same primary key."""
    with lite.sessionmaker().begin() as session:
        session.add(Country(id=1, name="DE"))
        for key in range(3):
            session.add(Customer(id=key, name=f"c{key}", country_id=1))
            session.add(Note(id=1, customer_id=key, text=f"n{key}"))
            session.add(Order(customer_id=key, number=1))
        session.add(Account(id=1, name="a"))
    return lite


def notes(session: Session) -> dict[int, Note]:
    """Load the three notes."""
    return {note.customer_id: note for note in session.scalars(select(Note))}


@pytest.mark.parametrize("end", ["close", "reset", "expunge_all", "commit", "rollback"])
def test_rows_stay_apart_after_the_session_starts_again(full: Router, end: str) -> None:
    """A new identity map tells shards apart like the one before it."""
    with full.sessionmaker()() as session:
        before = notes(session)
        getattr(session, end)()
        after = notes(session)
        assert {key: note.text for key, note in after.items()} == {0: "n0", 1: "n1", 2: "n2"}
        assert len({id(note) for note in after.values()}) == 3
        kept = end in {"commit", "rollback"}
        assert all((after[key] is before[key]) is kept for key in range(3))


NOTES = text("SELECT * FROM notes")


@pytest.mark.parametrize(
    "statement",
    [
        lambda: select(Note).where(Note.customer_id == 1),
        lambda: lambda_stmt(lambda: select(Note).where(Note.customer_id == 1)),
        lambda: (
            select(Note).from_statement(text("SELECT * FROM notes")).options(on_shard("shop/s1"))
        ),
        lambda: update(Note).where(Note.customer_id == 1).values(text="n1").returning(Note),
    ],
    ids=["select", "lambda", "text", "returning"],
)
def test_every_way_of_loading_gives_the_same_object(full: Router, statement: object) -> None:
    """The shard is part of the identity whatever statement the row came from."""
    with full.sessionmaker()() as session:
        loaded = notes(session)
        assert session.scalars(statement()).all() == [loaded[1]]  # type: ignore[operator]


def test_returned_rows_of_two_shards(full: Router) -> None:
    """INSERT ... RETURNING of one primary key on two shards gives two objects."""
    with full.sessionmaker()() as session:
        one = session.scalars(
            insert(Note).returning(Note), [{"id": 7, "customer_id": 1, "text": "x"}]
        ).one()
        two = session.scalars(
            insert(Note).returning(Note), [{"id": 7, "customer_id": 2, "text": "y"}]
        ).one()
        assert (one.text, two.text) == ("x", "y")
        assert session.get(Note, 7, bind_arguments={"shard": "shop/s1"}) is one


@pytest.mark.parametrize("arguments", ["bind", "database"])
def test_an_engine_or_database_names_its_shard(full: Router, arguments: str) -> None:
    """Rows read by naming a database have the identity they always have."""
    with full.sessionmaker()() as session:
        loaded = notes(session)
        given = {"bind": full.engines["d2"], "database": "d2"}
        found = session.scalars(select(Note), bind_arguments={arguments: given[arguments]}).all()
        assert found == [loaded[2]]
        with pytest.raises(CrossShardError, match="R305"):
            session.execute(
                insert(Note).values(id=9, customer_id=1, text=""),
                bind_arguments={arguments: given[arguments]},
            )


def test_an_update_on_one_shard_leaves_its_namesakes_alone(full: Router) -> None:
    """Objects of other shards are not brought up to date with what did not happen to them."""
    with full.sessionmaker()() as session:
        loaded = notes(session)
        session.execute(
            update(Note).where(Note.id == 1).values(text="new").options(on_shard("shop/s1"))
        )
        assert [loaded[key].text for key in range(3)] == ["n0", "new", "n2"]


def test_pickled_and_merged_elsewhere(full: Router) -> None:
    """A detached object knows its shard."""
    make = full.sessionmaker()
    with make() as session:
        packed = pickle.dumps(notes(session)[2])
    with make.begin() as session:
        note = pickle.loads(packed)
        note.text = "changed"
        assert session.merge(note).customer_id == 2
    with make.begin() as session:
        note = pickle.loads(packed)
        session.add(note)
        assert note.customer.id == 2
        session.expire(note)
        assert note.text == "changed"
        session.delete(note)
    with make() as session:
        assert sorted(notes(session)) == [0, 1]


def test_made_transient_and_added_elsewhere(full: Router) -> None:
    """An object that forgot its identity is placed by its key again, not by its old shard."""
    make = full.sessionmaker()
    with make.begin() as session:
        note = notes(session)[0]
        session.delete(note)
        session.flush()
        make_transient(note)
        note.customer_id, note.id = 2, 5
        merged = session.merge(note)
        session.flush()
        assert inspect(merged).key[2] == "shop/s2"
    with make() as session:
        assert session.get(Note, 5, bind_arguments={"shard": "shop/s2"}).text == "n0"


def test_an_object_of_unknown_shard_is_not_guessed(full: Router) -> None:
    """A row that three shards may hold is not refreshed from any of them."""
    with full.sessionmaker()() as session:
        note = Note(id=1)
        make_transient_to_detached(note)
        session.add(note)
        with pytest.raises(RoutingError, match="R202"):
            session.refresh(note)
        with pytest.raises(RoutingError, match="R202"):
            note.text  # noqa: B018


def test_get_after_expunge_and_by_shard(full: Router) -> None:
    """An expunged object is loaded anew; a named shard is the only one asked."""
    with full.sessionmaker()() as session:
        note = notes(session)[1]
        session.expunge(note)
        sent = watch(full)
        again = session.get(Note, 1, bind_arguments={"shard": "shop/s1"})
        assert again is not note
        assert sent.count("SELECT") == {"d1": 1}
        assert session.get(Note, 1, options=[on_shard("shop/s1")]) is again
        assert session.get(Note, 1, identity_token="shop/s1") is again
        with pytest.raises(CrossShardError, match="R306"):
            session.get(Note, 1)
        with pytest.raises(CrossShardError, match="R306"):
            session.merge(Note(id=1, text="which?"))


def test_merging_a_key_of_the_same_shard(full: Router) -> None:
    """It is the row of that primary key on the key's shard that is changed."""
    with full.sessionmaker()() as session:
        merged = session.merge(Note(id=1, customer_id=2, text="m"))
        assert merged is notes(session)[2]
        assert session.merge(Note(id=1, customer_id=5, text="m")) is merged
        session.commit()
        assert merged.customer_id == 5


@pytest.fixture
def lines(full: Router) -> Router:
    """A line for each note, all of one primary key."""
    with full.sessionmaker().begin() as session:
        session.add_all([Line(id=1, note_id=1, customer_id=key) for key in range(3)])
    return full


@pytest.mark.parametrize("load", [selectinload, subqueryload, immediateload])
def test_related_rows_of_namesakes(lines: Router, load: object) -> None:
    """Children follow the shard of their parents, which have one primary key."""
    with lines.sessionmaker()() as session:
        statement = select(Note).options(load(Note.lines), load(Note.customer))  # type: ignore[operator]
        for note in session.scalars(statement).unique():
            assert [line.customer_id for line in note.lines] == [note.customer_id]
            assert note.customer.id == note.customer_id
        for line in session.scalars(select(Line).options(load(Line.note))).unique():  # type: ignore[operator]
            assert line.note.customer_id == line.customer_id
        assert len({id(one) for one in session.scalars(select(Customer))}) == 3
        session.expunge_all()
        for note in session.scalars(select(Note).options(joinedload(Note.lines))).unique():
            assert [line.customer_id for line in note.lines] == [note.customer_id]


def test_lazy_related_rows_of_namesakes(lines: Router) -> None:
    """Each lazy load asks the one shard of its object."""
    with lines.sessionmaker()() as session:
        loaded = session.scalars(select(Line)).all()
        sent = watch(lines)
        assert all(line.note.customer_id == line.customer_id for line in loaded)
        assert all(line.note.customer.country is session.get(Country, 1) for line in loaded)
        assert sent.count("SELECT") == {"d0": 3, "d1": 2, "d2": 2}


def test_row_switch(full: Router) -> None:
    """Deleting a row and adding one of its primary key in one flush works on every shard."""
    make = full.sessionmaker()
    with make.begin() as session:
        session.delete(notes(session)[1])
        session.add(Note(id=1, customer_id=1, text="again"))
        session.delete(session.get(Order, (1, 1)))
        session.add(Order(customer_id=1, number=1, total=8))
    with make.begin() as session:
        assert notes(session)[1].text == "again"
        assert session.get(Order, (1, 1)).total == 8
        session.delete(notes(session)[1])
        session.add(Note(id=1, customer_id=4, text="other key, same shard"))
        session.delete(notes(session)[2])
        session.add(Note(id=2, customer_id=0, text="other shard"))
    with make() as session:
        assert {(note.id, note.customer_id) for note in session.scalars(select(Note))} == {
            (1, 0),
            (1, 4),
            (2, 0),
        }


def test_rolled_back_objects_keep_their_identity(full: Router) -> None:
    """A rollback restores deleted, changed and expunged objects of namesakes."""
    with full.sessionmaker()() as session:
        loaded = notes(session)
        session.delete(loaded[0])
        loaded[1].text = "changed"
        session.add(Note(id=2, customer_id=0, text="new"))
        session.flush()
        session.rollback()
        assert notes(session) == loaded
        assert loaded[1].text == "n1"
        with session.begin_nested() as savepoint:
            session.delete(loaded[2])
            session.flush()
            savepoint.rollback()
        assert sorted(notes(session)) == [0, 1, 2]


def test_populate_existing_and_locks(full: Router) -> None:
    """Reloading statements find the objects that are there."""
    with full.sessionmaker()() as session:
        loaded = notes(session)
        statement = select(Note).where(Note.customer_id == 1)
        with session.no_autoflush:
            loaded[1].text = "dirty"
            again = session.scalars(statement.execution_options(populate_existing=True)).one()
        assert again is loaded[1]
        assert again.text == "n1"
        session.refresh(again, with_for_update=True)
        got = session.get(Customer, 1, with_for_update=True, populate_existing=True)
        assert got is again.customer


class Local(DeclarativeBase):
    """Base of models whose customers refer to rows of their own shard."""


class Badge(Local):
    """Its primary key does not name the shard."""

    __tablename__ = "badges"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[int]


class Member(Local):
    """Its primary key names the shard; its badge is on the same one."""

    __tablename__ = "members"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    badge_id: Mapped[int] = mapped_column(ForeignKey("badges.id"))
    badge: Mapped[Badge] = relationship()


@pytest.fixture
def members(make_databases: MakeDatabases) -> Router:
    """Two members, each with the badge 1 of its shard."""
    urls = make_databases("sqlite", 2)
    router = Router.from_dict(
        {
            "version": 1,
            "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
            "keyspaces": {
                "club": {
                    "shards": {"s0": "d0", "s1": "d1"},
                    "sharding": {"function": "modulo"},
                    "tables": {"badges": "owner", "members": "id"},
                }
            },
            "transactions": {"two_phase": False},
        },
        metadata=Local.metadata,
    )
    router.create_all()
    with router.sessionmaker().begin() as session:
        for key in range(2):
            session.add_all([Badge(id=1, owner=key), Member(id=key, badge_id=1)])
    return router


def test_a_foreign_key_means_the_row_of_its_own_shard(members: Router) -> None:
    """Also where the row that holds it names its shard itself; other loaders are refused."""
    with members, members.sessionmaker()() as session:
        for member in session.scalars(select(Member)):
            assert member.badge.owner == member.id
        session.expunge_all()
        with pytest.raises(CrossShardError, match="R306"):
            session.scalars(select(Member).options(selectinload(Member.badge))).all()
        session.expunge_all()
        with pytest.raises(CrossShardError, match="R306"):
            session.scalars(select(Member).options(joinedload(Member.badge))).all()
