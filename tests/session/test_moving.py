"""A row whose shard key changes goes to the shard that its new key names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import (
    ForeignKey,
    ForeignKeyConstraint,
    delete,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.orm.exc import StaleDataError

from router import Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.conftest import watch
from tests.session.shop import Customer, Note, Order
from tests.session.test_flush import rows


@pytest.fixture
def full(shop: Router) -> Router:
    """Two customers, on two shards."""
    with shop.sessionmaker().begin() as session:
        for key in (1, 2):
            customer = Customer(id=key, name=f"c{key}")
            customer.orders = [Order(number=key * 10 + n, total=n) for n in range(2)]
            customer.notes = [Note(id=7, text=f"of {key}")]
            session.add(customer)
    return shop


def test_a_row_moves(full: Router) -> None:
    """With what else was changed; its identity says where it is now."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        other = session.scalars(select(Note).where(Note.customer_id == 2)).one()
        session.delete(other)
        session.flush()
        note.customer_id = 2
        note.text = "moved"
        session.flush()
        assert inspect(note).identity_token == "shop/s0"
        assert session.get(Note, 7) is note
        session.commit()
        assert note.text == "moved"
        note.text = "again"
        session.commit()
    assert rows(full, "SELECT customer_id, text FROM notes") == {"d0": [(2, "again")], "d1": []}


def test_what_was_not_changed_stays_as_the_database_has_it(full: Router) -> None:
    """Also what was given the value that it had when it was loaded."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        session.execute(delete(Note).where(Note.customer_id == 2))
        behind = update(Note).where(Note.customer_id == 1).values(text="new")
        session.execute(behind, execution_options={"synchronize_session": False})
        note.customer_id, note.text = 2, "of 1"
        session.commit()
        assert note.text == "new"
    assert rows(full, "SELECT customer_id, text FROM notes") == {"d0": [(2, "new")], "d1": []}


def test_an_update_writes_what_it_says(full: Router) -> None:
    """Also where an object in the session has that value, and the database has not."""
    with full.sessionmaker()() as session:
        session.execute(delete(Note).where(Note.customer_id == 2))
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        behind = update(Note).where(Note.customer_id == 1).values(text="new")
        session.execute(behind, execution_options={"synchronize_session": False})
        move = update(Note).where(Note.customer_id == 1).values(customer_id=2, text="of 1")
        assert session.execute(move).rowcount == 1
        session.commit()
        assert note.text == "of 1"
    assert rows(full, "SELECT customer_id, text FROM notes") == {"d0": [(2, "of 1")], "d1": []}


@pytest.mark.parametrize("how", ["auto", "evaluate"])
def test_an_object_whose_row_is_gone_follows_an_update(full: Router, how: str) -> None:
    """As SQLAlchemy evaluates the criteria in Python, whatever became of the row."""
    with full.sessionmaker()() as session:
        gone = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        behind = delete(Note).where(Note.customer_id == 1)
        session.execute(behind, execution_options={"synchronize_session": False})
        move = update(Note).where(Note.customer_id == 1).values(customer_id=2, text="moved")
        assert session.execute(move, execution_options={"synchronize_session": how}).rowcount == 0
        assert (gone.customer_id, gone.text) == (2, "moved")
        assert not session.dirty


def test_an_update_that_cannot_be_evaluated_says_so(full: Router) -> None:
    """As SQLAlchemy's own."""
    move = update(Note).where(Note.text.in_(select(Customer.name))).values(customer_id=2)
    with full.sessionmaker()() as session, pytest.raises(InvalidRequestError, match="evaluate"):
        session.execute(move, execution_options={"synchronize_session": "evaluate"})


def test_a_primary_key_moves(full: Router) -> None:
    """By its relationship; the version counts on."""
    with full.sessionmaker()() as session:
        order = session.get_one(Order, (1, 10))
        order.customer = session.get_one(Customer, 2)
        session.commit()
        assert order.version == 2
        assert session.get(Order, (2, 10)) is order
        assert session.get(Order, (1, 10)) is None
        order.total = 99
        session.commit()
    found = rows(full, "SELECT customer_id, number, version FROM orders ORDER BY number")
    assert found == {
        "d0": [(2, 10, 3), (2, 20, 1), (2, 21, 1)],
        "d1": [(1, 11, 1)],
    }


def test_a_key_on_the_same_shard_stays_there(full: Router) -> None:
    """It is an UPDATE like any other."""
    with full.sessionmaker().begin() as session:
        session.add(Customer(id=3, name="c3"))
    sent = watch(full)
    with full.sessionmaker().begin() as session:
        session.get_one(Order, (1, 10)).customer_id = 3
    assert sent.count("INSERT") == {}
    assert sent.count("DELETE") == {}
    assert rows(full, "SELECT customer_id FROM orders WHERE number = 10")["d1"] == [(3,)]


def test_to_a_parent_that_is_new(full: Router) -> None:
    """The parent is inserted first, on the shard that the row goes to."""
    with full.sessionmaker().begin() as session:
        orders = session.scalars(select(Order).where(Order.customer_id == 1)).all()
        session.add(Customer(id=4, name="new", orders=list(orders)))
    found = rows(full, "SELECT customer_id, number FROM orders ORDER BY number")
    assert found == {"d0": [(4, 10), (4, 11), (2, 20), (2, 21)], "d1": []}


def test_a_version_that_is_old(full: Router) -> None:
    """A row that somebody else has changed does not move."""
    with full.sessionmaker()() as session:
        order = session.get_one(Order, (1, 10))
        with full.engines["d1"].begin() as connection:
            connection.execute(text("UPDATE orders SET version = 9"))
        order.customer_id = 2
        with pytest.raises(StaleDataError):
            session.flush()
        session.rollback()
    assert rows(full, "SELECT COUNT(*) FROM orders") == {"d0": [(2,)], "d1": [(2,)]}


def test_a_row_that_is_gone(full: Router) -> None:
    """Is not invented on another shard."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        with full.engines["d1"].begin() as connection:
            connection.execute(text("DELETE FROM notes"))
        note.customer_id = 2
        with pytest.raises((StaleDataError, IntegrityError)):
            session.flush()
        session.rollback()


def test_a_rollback_brings_it_back(full: Router) -> None:
    """Row, identity key and token."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        other = session.scalars(select(Note).where(Note.customer_id == 2)).one()
        session.delete(other)
        session.flush()
        note.customer_id = 2
        session.flush()
        session.rollback()
        assert inspect(note).identity_token == inspect(note).key[2] == "shop/s1"
        assert note.customer_id == 1
        note.text = "kept"
        session.commit()
    assert rows(full, "SELECT text FROM notes") == {"d0": [("of 2",)], "d1": [("kept",)]}


def test_deleting_a_row_whose_key_was_changed(full: Router) -> None:
    """It is deleted where it is."""
    with full.sessionmaker().begin() as session:
        order = session.get_one(Order, (1, 10))
        with session.no_autoflush:
            order.customer_id = 2
            session.delete(order)
    assert rows(full, "SELECT number FROM orders ORDER BY number")["d1"] == [(11,)]


def test_rows_that_refer_to_it_stop_it(full: Router) -> None:
    """As they would in one database: a customer with orders keeps its key."""
    if full.engines["d0"].dialect.name == "sqlite":
        pytest.skip("SQLite does not look at foreign keys by default")
    with full.sessionmaker()() as session:
        session.get_one(Customer, 1).id = 4
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
    assert rows(full, "SELECT id FROM customers") == {"d0": [(2,)], "d1": [(1,)]}


# -- dependants --------------------------------------------------------------------------------


class Base(DeclarativeBase):
    """Base of the models below."""


class Team(Base):
    """What the others belong to."""

    __tablename__ = "teams"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    players: Mapped[list[Player]] = relationship(passive_updates=False)


class Player(Base):
    """Follows its team, as its relationship says."""

    __tablename__ = "players"

    team_id: Mapped[int] = mapped_column(
        ForeignKey("teams.id", deferrable=True, initially="DEFERRED"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hits: Mapped[list[Hit]] = relationship(passive_updates=False)


class Hit(Base):
    """Follows its player, which follows its team."""

    __tablename__ = "hits"
    __table_args__ = (
        ForeignKeyConstraint(
            ["team_id", "number"],
            ["players.team_id", "players.number"],
            deferrable=True,
            initially="DEFERRED",
        ),
    )

    team_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    minute: Mapped[int] = mapped_column(primary_key=True)


class Prize(Base):
    """Deleted by the database with its team."""

    __tablename__ = "prizes"

    team_id: Mapped[int] = mapped_column(
        ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True
    )


@pytest.fixture
def teams(make_databases: MakeDatabases) -> Iterator[Router]:
    """Two shards on PostgreSQL."""
    urls = make_databases("postgresql", 2)
    shard_map = {
        "version": 1,
        "databases": {f"d{n}": {"url": url} for n, url in enumerate(urls)},
        "keyspaces": {
            "league": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": {
                    "teams": "id",
                    "players": "team_id",
                    "hits": "team_id",
                    "prizes": "team_id",
                },
            }
        },
    }
    with Router.from_dict(shard_map, metadata=Base.metadata) as router:
        router.create_all()
        with router.sessionmaker().begin() as session:
            players = [Player(number=n) for n in (1, 2)]
            session.add(Team(id=1, players=players))
        yield router


@pytest.mark.postgresql
def test_dependants_move_along(teams: Router) -> None:
    """Where their relationships say so."""
    with teams.sessionmaker().begin() as session:
        session.get_one(Team, 1).id = 2
    for table, count in (("teams", 1), ("players", 2)):
        found = []
        for name in ("d0", "d1"):
            with teams.engines[name].connect() as connection:
                found.append(connection.scalar(text(f"SELECT COUNT(*) FROM {table}")))
        assert found == [count, 0]


@pytest.mark.postgresql
def test_dependants_of_dependants(teams: Router) -> None:
    """SQLAlchemy does not follow them; they stop the move as they would in one database."""
    with teams.sessionmaker().begin() as session:
        session.get_one(Player, (1, 2)).hits = [Hit(minute=1)]
    with teams.sessionmaker()() as session:
        session.get_one(Team, 1).id = 2
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert [one.team_id for one in session.scalars(select(Player))] == [1, 1]


@pytest.mark.postgresql
def test_rows_that_the_database_would_delete(teams: Router) -> None:
    """Nothing is moved away from them."""
    with teams.sessionmaker().begin() as session:
        session.add(Prize(team_id=1))
    with teams.sessionmaker()() as session:
        session.get_one(Team, 1).id = 2
        with pytest.raises(RoutingError, match=r"R203.*prizes"):
            session.flush()
        session.rollback()
        assert len(session.scalars(select(Prize)).all()) == 1


@pytest.mark.postgresql
def test_a_column_that_the_model_does_not_have(teams: Router) -> None:
    """Its value would be lost."""
    for name in ("d0", "d1"):
        with teams.engines[name].begin() as connection:
            connection.execute(text("ALTER TABLE teams ADD COLUMN motto TEXT"))
    with teams.sessionmaker()() as session:
        session.get_one(Team, 1).id = 2
        with pytest.raises(RoutingError, match="motto"):
            session.flush()
