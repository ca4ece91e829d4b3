"""SQL expressions among the values of a flush: evaluated by one shard only if it can know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import (
    String,
    bindparam,
    event,
    func,
    insert,
    literal_column,
    null,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from router import CrossShardError, Router, RouterError
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Country, Customer, Line, Note, Order, Tag

HIGHEST = select(func.max(Order.total)).scalar_subquery()


@pytest.fixture
def filled(shop: Router) -> Router:
    """Customers on both shards, whose orders have different totals."""
    with shop.sessionmaker().begin() as session:
        session.add_all([Country(id=1, name="a"), Country(id=2, name="b"), Account(id=1, name="x")])
        for key in (6, 7):
            session.add(Customer(id=key, name=f"c{key}", country_id=1))
            session.add(Order(customer_id=key, number=1, total=key * 10))
            session.add(Note(id=key, customer_id=key, text="old"))
    return shop


def order(session: Session, key: int = 6) -> Order:
    """Return the order of a customer."""
    return session.get_one(Order, (key, 1))


def rejected(session: Session, *ids: str) -> None:
    """Check that a flush is refused before it has written anything, and say why."""
    with pytest.raises(RouterError) as caught:
        session.flush()
    assert isinstance(caught.value, CrossShardError)
    assert caught.value.id in (ids or ("R305",))
    assert "read" in str(caught.value)


def new_order(total: Any) -> Order:
    """Return a new order of a customer on the first shard."""
    return Order(customer_id=6, number=2, total=total)


@pytest.mark.parametrize("new", [True, False], ids=["insert", "update"])
def test_the_rows_of_all_shards(filled: Router, new: bool) -> None:
    """A maximum over a sharded table is not one shard's."""
    with filled.sessionmaker()() as session:
        if new:
            session.add(new_order(HIGHEST))
        else:
            order(session).total = HIGHEST
        rejected(session)


def test_the_rows_of_another_key(filled: Router) -> None:
    """A value may be read from rows of the same shard, not from those of another."""
    own, other = (
        select(func.max(Order.total) + 1).where(Order.customer_id == key).scalar_subquery()
        for key in (6, 7)
    )
    with filled.sessionmaker()() as session:
        first = order(session)
        second = new_order(own)
        session.add(second)
        first.total = own
        session.flush()
        # Whichever is written first: both were computed on the right shard.
        assert {first.total, second.total} <= {61, 62}
        first.total = other
        rejected(session)
        session.rollback()
        session.add(new_order(other))
        rejected(session)


def test_the_row_itself(filled: Router) -> None:
    """Columns of the row, functions of them, NULL, and rows that belong to it are known."""
    with filled.sessionmaker().begin() as session:
        first, note = order(session), session.get_one(Note, 6)
        first.total = Order.total + 1
        note.text = func.upper(Note.text)
        session.get_one(Customer, 6).country_id = null()
        session.flush()
        assert (first.total, note.text) == (61, "OLD")
        count = select(func.count()).where(Note.customer_id == Order.customer_id)
        first.total = count.correlate(Order).scalar_subquery()
        session.flush()
        assert first.total == 1


def test_copies_of_a_reference_table(filled: Router) -> None:
    """Every shard has all rows of a reference table."""
    names = select(func.max(Country.name)).scalar_subquery()
    with filled.sessionmaker().begin() as session:
        session.get_one(Customer, 7).name = names
        session.add(Customer(id=8, name=names))
        session.flush()
        assert session.get_one(Customer, 7).name == session.get_one(Customer, 8).name == "b"
        session.merge(Customer(id=6, name=names))
        moving = session.get_one(Note, 6)
        moving.customer_id, moving.text = 7, names
        session.flush()
        assert session.get_one(Customer, 6).name == moving.text == "b"


def test_a_key_that_is_not_the_primary_key(filled: Router) -> None:
    """The shard of a row counts, wherever it is known from."""
    own, every = (
        select(func.max(Order.number) + 6).where(*criteria).scalar_subquery()
        for criteria in ([Order.customer_id == 7], [])
    )
    with filled.sessionmaker()() as session:
        session.add(Line(id=1, note_id=own, customer_id=7))
        session.flush()
        session.get_one(Note, 7).text = func.upper("x")
        session.flush()
        session.add(Line(id=2, note_id=every, customer_id=7))
        rejected(session)


@pytest.mark.parametrize(
    "value",
    [text("(SELECT MAX(total) FROM orders)"), literal_column("(SELECT MAX(total) FROM orders)")],
    ids=["text", "literal"],
)
@pytest.mark.parametrize("new", [True, False], ids=["insert", "update"])
def test_texts(filled: Router, value: Any, new: bool) -> None:
    """What a text reads cannot be seen; a plain one is let through."""
    with filled.sessionmaker()() as session:
        if new:
            session.add(new_order(value))
        else:
            order(session).total = value
        rejected(session, "R304")
        session.rollback()
        order(session).total = text("total + 5")
        session.flush()
        assert order(session).total == 65


def test_tables_that_are_not_sharded(filled: Router) -> None:
    """Their rows cannot be computed from those of a shard that happens to be near."""
    with filled.sessionmaker()() as session:
        session.get_one(Account, 1).name = func.upper(Account.name)
        session.get_one(Country, 1).name = func.upper(Country.name)
        session.flush()
        assert session.get_one(Country, 1).name == "A"
        session.get_one(Account, 1).name = select(func.max(Customer.name)).scalar_subquery()
        rejected(session, "R303", "R305")
        session.rollback()
        session.get_one(Country, 1).name = select(func.max(Customer.name)).scalar_subquery()
        rejected(session, "R305", "R308")
        session.rollback()
        session.add(Country(id=3, name=select(func.max(Customer.name)).scalar_subquery()))
        rejected(session, "R305", "R308")


def test_copies_are_computed_from_copies(filled: Router) -> None:
    """A row of a reference table may be computed from others of reference tables."""
    with filled.sessionmaker().begin() as session:
        session.add(Tag(id=select(func.max(Country.id) + 1).scalar_subquery()))
        session.flush()
    for name in ("d0", "d1"):
        with filled.engines[name].connect() as connection:
            assert connection.scalars(text("SELECT id FROM tags")).all() == [3]


def test_nothing_is_written(filled: Router) -> None:
    """A refused flush leaves the session as any other failed flush does."""
    with filled.sessionmaker()() as session:
        order(session).total = 1
        order(session, 7).total = HIGHEST
        rejected(session)
        session.rollback()
        assert (order(session).total, order(session, 7).total) == (60, 70)


@pytest.mark.parametrize("moment", ["before_insert", "before_update"])
def test_handlers(filled: Router, moment: str) -> None:
    """Values that handlers give during the flush are looked at, too, whenever they were added."""

    def give(mapper: object, connection: object, target: Order) -> None:
        target.total = HIGHEST

    make = filled.sessionmaker()
    with make() as session:
        # Flushes before the handler is there.
        session.add(new_order(1))
        session.flush()
        order(session).total = 1
        session.flush()
    event.listen(Order, moment, give)
    try:
        with make() as session:
            if moment == "before_insert":
                session.add(new_order(1))
            else:
                order(session).total = 1
            rejected(session)
    finally:
        event.remove(Order, moment, give)


# -- defaults ----------------------------------------------------------------------------------


class Base(DeclarativeBase):
    """Base of tables whose defaults read other rows."""


class Plain(Base):
    """Has a default which each shard can know."""

    __tablename__ = "plain"

    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str] = mapped_column(
        String(9), default=func.lower("ABC"), onupdate=func.upper("abc")
    )
    size: Mapped[int] = mapped_column(default=0)


_LARGEST = select(func.coalesce(func.max(Plain.size), 0)).scalar_subquery()


class Ticket(Base):
    """Has defaults for which rows of other customers are read."""

    __tablename__ = "tickets"

    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    turn: Mapped[int] = mapped_column("highest", default=_LARGEST)
    seen: Mapped[int | None] = mapped_column("last_seen", onupdate=_LARGEST)


@pytest.fixture
def tickets(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """Two shards with tickets."""
    urls = make_databases(dialect, 2)
    data = {
        "version": 1,
        "databases": {f"d{at}": {"url": url} for at, url in enumerate(urls)},
        "keyspaces": {
            "shop": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": {"tickets": "customer_id", "plain": "customer_id"},
            }
        },
        "transactions": {"two_phase": dialect != "sqlite"},
    }
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        yield router


def test_defaults_that_read_other_rows(tickets: Router) -> None:
    """A default is refused where it is used, by flushes and by statements alike."""
    with tickets.sessionmaker()() as session:
        session.add(Ticket(customer_id=1, number=1))
        rejected(session)
        session.rollback()
        several = [{"customer_id": key, "number": 1} for key in (1, 2)]
        for rows in (several, several[:1], several[0]):
            for target in (Ticket, Ticket.__table__):
                with pytest.raises(CrossShardError, match="R305"):
                    session.execute(insert(target), rows)
                with pytest.raises(CrossShardError, match="R305"):
                    session.execute(insert(target).values(rows))
        # Of many rows, the ORM takes what attributes are called.
        for name in ("highest", "turn"):
            ticket = [{"customer_id": 1, "number": 1, name: 4}]
            with nullcontext() if name == "turn" else pytest.raises(CrossShardError, match="R305"):
                session.execute(insert(Ticket), ticket)
        assert session.scalars(select(Ticket.turn)).all() == [4]


def test_renewals_that_read_other_rows(tickets: Router) -> None:
    """The same for what an UPDATE renews."""
    with tickets.sessionmaker()() as session:
        ticket = Ticket(customer_id=1, number=1, turn=1)
        session.add(ticket)
        session.commit()
        ticket.turn = 5
        rejected(session)
        session.rollback()
        for criterion in (Ticket.customer_id == 1, Ticket.turn == 1):
            with pytest.raises(CrossShardError, match="R305"):
                session.execute(update(Ticket).where(criterion).values(turn=9))
        with pytest.raises(CrossShardError, match="R305"):
            session.execute(update(Ticket), [{"customer_id": 1, "number": 1, "turn": 9}])
        for given in ({"seen": 4}, {Ticket.seen: 4}):
            session.execute(update(Ticket).where(Ticket.customer_id == 1).values(given))
            session.execute(update(Ticket).where(Ticket.turn < 9).values({"turn": 2, **given}))
        ticket.seen, ticket.turn = 7, 8
        session.commit()
        assert (ticket.turn, ticket.seen) == (8, 7)


def test_renewals_of_some_rows(tickets: Router) -> None:
    """Of many rows, each may leave out another value."""
    table = Ticket.__table__
    with tickets.sessionmaker()() as session:
        session.add_all([Ticket(customer_id=key, number=1, turn=key) for key in (1, 2)])
        session.commit()
        first = {"customer_id": 1, "number": 1, "seen": 3}
        second = {"customer_id": 2, "number": 1, "turn": 3}
        for rows in ([first, second], [second, first], [{**second, "last_seen": 1}]):
            with pytest.raises(CrossShardError, match="R305"):
                session.execute(update(Ticket), rows)
        session.execute(update(Ticket), [first, {**second, "seen": 4}])
        # Of the values of a row, only those are written that the first row names, too.
        own = update(table).where(table.c.customer_id == bindparam("key"))
        rows = [{"key": 1, "highest": 9}, {"key": 2, "highest": 9, "last_seen": 1}]
        with pytest.raises(CrossShardError, match="R305"):
            session.execute(own, rows)
        session.execute(own, [{**row, "last_seen": 5} for row in rows])
        assert set(session.scalars(select(Ticket.seen))) == {5}


def test_other_defaults(tickets: Router) -> None:
    """Defaults that read nothing are left to the databases."""
    with tickets.sessionmaker().begin() as session:
        rows = [Plain(customer_id=key) for key in range(4)]
        session.add_all(rows)
        session.flush()
        assert {row.note for row in rows} == {"abc"}
        for row in rows:
            row.size = 3
        session.flush()
        assert {row.note for row in rows} == {"ABC"}


# -- prefixes ----------------------------------------------------------------------------------


def test_prefixes_that_look_for_other_rows(filled: Router, dialect: str) -> None:
    """IGNORE and OR REPLACE look at the rows of one shard, where another may have the key."""
    words = {"mariadb": ["IGNORE"], "sqlite": ["OR IGNORE", "OR REPLACE"]}.get(dialect, [])
    with filled.sessionmaker()() as session:
        for word in words:
            clash = insert(Note).prefix_with(word).values(id=6, customer_id=7, text="new")
            with pytest.raises(CrossShardError, match="R305"):
                session.execute(clash)
            # A key that contains the shard key is on no other shard.
            same = insert(Order).prefix_with(word)
            session.execute(same.values(customer_id=7, number=1, total=1, version=1))


@pytest.mark.parametrize("comment", ["/* of a page */", "/*! */", "/*M! */", "/* */ IGNORE /* */"])
def test_prefixes_that_say_nothing(filled: Router, comment: str) -> None:
    """A comment is none that MySQL or MariaDB reads."""
    is_plain = comment.endswith("page */")
    said = insert(Note).prefix_with(comment).values(id=9, customer_id=7, text="new")
    with filled.sessionmaker()() as session:
        with nullcontext() if is_plain else pytest.raises(CrossShardError, match="R305"):
            session.execute(said)
        assert (session.get(Note, 9) is not None) is is_plain
