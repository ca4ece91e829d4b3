"""What SQLAlchemy's own sharding does right with objects, and must stay right here."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sqlalchemy import delete, event, inspect, lambda_stmt, select, update
from sqlalchemy.ext import baked
from sqlalchemy.orm import (
    Session,
    defer,
    joinedload,
    load_only,
    selectinload,
    subqueryload,
    undefer,
)

from router import CrossShardError, Router, on_shard
from tests.session.conftest import watch
from tests.session.shop import Country, Customer, Line, Note, Order


@pytest.fixture
def full(lite: Router) -> Router:
    """Customers 0 to 5, each with two orders; their notes have the keys 1 and 2 on each shard."""
    with lite.sessionmaker().begin() as session:
        country = Country(id=1, name="DE")
        for key in range(6):
            orders = [Order(number=number, total=10 * key + number) for number in range(2)]
            note = Note(id=1 + key // 3, text=f"n{key}")
            note.lines = [Line(id=1 + key // 3, customer_id=key)]
            session.add(
                Customer(id=key, name=f"c{key}", country=country, orders=orders, notes=[note])
            )
    return lite


def namesakes(session: Session, key: int = 1) -> dict[int, Note]:
    """Load the notes of one primary key, by customer."""
    return {note.customer_id: note for note in session.scalars(select(Note).where(Note.id == key))}


# -- identity -----------------------------------------------------------------------------------


def test_the_identity_token_is_the_shard(full: Router) -> None:
    """Equal primary keys are told apart by it; rows that no shard can double have none."""
    with full.sessionmaker()() as session:
        tokens = {key: inspect(one).identity_token for key, one in namesakes(session).items()}
        assert tokens == {key: f"shop/s{key}" for key in range(3)}
        assert inspect(session.get_one(Customer, 4)).identity_token is None
        assert inspect(session.get_one(Country, 1)).identity_token is None
        keys = [one.key for one in map(inspect, namesakes(session).values())]
        assert keys == [(Note, (1,), f"shop/s{key}") for key in range(3)]


def test_an_object_once_placed_stays(full: Router) -> None:
    """Whatever happens to it, a row keeps its shard: a new primary key included."""
    with full.sessionmaker()() as session:
        session.execute(delete(Line).where(Line.customer_id == 2))
        note = namesakes(session)[2]
        sent = watch(full)
        for change in (
            lambda: setattr(note, "text", "changed"),
            lambda: setattr(note, "id", 70),
            lambda: session.expire(note),
            lambda: session.refresh(note),
            session.commit,
            lambda: setattr(note, "text", "again"),
            session.rollback,
        ):
            change()
            session.flush()
            assert inspect(note).identity_token == "shop/s2"
        assert (note.id, note.text) == (70, "changed")
        assert set(sent.count("UPDATE")) == {"d2"}
        assert set(sent.count("SELECT")) == {"d2"}
        session.delete(note)
        session.commit()
        assert set(sent.count("DELETE")) == {"d2"}
        assert sorted(namesakes(session)) == [0, 1]


def test_load_events_see_the_shard(full: Router) -> None:
    """`load` and `refresh` handlers can tell where a row came from."""
    seen: list[tuple[str, int, Any]] = []

    def load(note: Note, context: Any) -> None:
        seen.append(("load", note.__dict__["customer_id"], inspect(note).identity_token))

    def refresh(note: Note, context: Any, attributes: Any) -> None:
        seen.append(("refresh", note.__dict__["customer_id"], inspect(note).identity_token))

    event.listen(Note, "load", load)
    event.listen(Note, "refresh", refresh)
    try:
        with full.sessionmaker()() as session:
            loaded = namesakes(session)
            session.refresh(loaded[1])
    finally:
        event.remove(Note, "load", load)
        event.remove(Note, "refresh", refresh)
    assert sorted(seen) == [
        *(("load", key, f"shop/s{key}") for key in range(3)),
        ("refresh", 1, "shop/s1"),
    ]


# -- loads of one object ------------------------------------------------------------------------


def test_refreshed_and_expired_rows_ask_their_own_shard(full: Router) -> None:
    """One statement there, and none on any other shard."""
    with full.sessionmaker()() as session:
        note = namesakes(session)[1]
        customer = session.get_one(Customer, 2)
        for one, database in ((note, "d1"), (customer, "d2")):
            for load in (
                lambda one=one: session.refresh(one),
                lambda one=one: (session.expire(one), inspect(one).dict, one.id),
                lambda one=one: session.refresh(one, with_for_update=True),
                lambda one=one: (session.expire(one, ["id"]), one.id),
            ):
                sent = watch(full)
                load()
                assert sent.count("SELECT") == {database: 1}


def test_deferred_columns_of_every_kind(full: Router) -> None:
    """`defer`, `load_only` and an undeferred group ask the row's own shard when needed."""
    with full.sessionmaker()() as session:
        for option in (defer(Note.text), load_only(Note.id)):
            statement = select(Note).where(Note.id == 2).options(option)
            note = next(one for one in session.scalars(statement) if _customer_of(one) == 4)
            sent = watch(full)
            assert note.text == "n4"
            assert sent.count("SELECT") == {"d1": 1}
            session.expunge_all()
        everything = select(Note).options(undefer("*"))
        notes = session.scalars(everything).all()
        sent = watch(full)
        assert {note.text for note in notes} == {f"n{key}" for key in range(6)}
        assert sent.sent == []


def _customer_of(note: Note) -> int:
    """Return the customer of the second note of a shard, from the shard alone."""
    return int(str(inspect(note).identity_token).removeprefix("shop/s")) + 3


# -- hints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [selectinload, subqueryload, joinedload])
def test_a_hint_limits_the_statement_and_its_relationship_loads(full: Router, load: Any) -> None:
    """Eager, nested and later lazy loads stay on the shard that was named."""
    with full.sessionmaker()() as session:
        sent = watch(full)
        statement = (
            select(Note)
            .where(Note.id == 1)
            .options(on_shard("shop/s1"), load(Note.lines), load(Note.customer))
        )
        note = session.scalars(statement).unique().one()
        assert [line.customer_id for line in note.lines] == [1]
        assert [order.total for order in note.customer.orders] == [10, 11]
        assert note.customer.country is not None
        assert set(sent.count("SELECT")) == {"d1"}


def test_a_hint_ends_with_its_statement(full: Router) -> None:
    """The next statement without one sees every shard; bind arguments do not outlive theirs."""
    with full.sessionmaker()() as session:
        statement = select(Customer.id)
        for hinted in (
            session.scalars(statement.options(on_shard("shop/s2"))),
            session.scalars(statement, bind_arguments={"shard": "shop/s2"}),
            session.scalars(statement, bind_arguments={"keyspace": "shop", "shard_key": 2}),
        ):
            assert sorted(hinted) == [2, 5]
            assert sorted(session.scalars(statement)) == list(range(6))
        unhinted = session.scalars(select(Customer), bind_arguments={"shard": "shop/s2"}).first()
        assert unhinted is not None
        assert sorted(session.scalars(select(Customer.id))) == list(range(6))


# -- relationships ------------------------------------------------------------------------------


def test_a_many_to_one_to_a_loaded_object_emits_nothing(full: Router) -> None:
    """Neither to a sharded row nor to a reference row that was loaded from another copy."""
    with full.sessionmaker()() as session:
        kept = [
            *session.scalars(select(Customer)),
            *session.scalars(select(Country)),
        ]
        orders, notes = session.scalars(select(Order)).all(), session.scalars(select(Note)).all()
        sent = watch(full)
        assert all(order.customer.id == order.customer_id for order in orders)
        assert all(note.customer.id == note.customer_id for note in notes)
        assert all(note.customer.country.name == "DE" for note in notes)
        assert sent.sent == []
        assert len(kept) == 7


# -- updates and deletes of many rows -----------------------------------------------------------


@pytest.mark.parametrize("how", ["fetch", "evaluate", "auto"])
@pytest.mark.parametrize("shard", ["shop/s1", None])
def test_updates_keep_loaded_objects_right(full: Router, how: str, shard: str | None) -> None:
    """Those that match have the new value, the others the old one, and nothing is asked again.

    Without a shard the statement is refused, or right on every shard.
    """
    with full.sessionmaker()() as session:
        loaded = [*namesakes(session).values(), *namesakes(session, 2).values()]
        statement = update(Note).where(Note.id == 1).values(text="new")
        if shard is not None:
            statement = statement.options(on_shard(shard))
        hit = {(note.id, note.customer_id) for note in loaded if note.id == 1}
        hit = {one for one in hit if shard in {f"shop/s{one[1] % 3}", None}}
        try:
            session.execute(statement, execution_options={"synchronize_session": how})
        except CrossShardError:
            assert shard is None
            hit = set()
        sent = watch(full)
        found = {(note.id, note.customer_id) for note in loaded if note.text == "new"}
        assert found == hit
        assert sent.sent == []
        session.expire_all()
        assert {(note.id, note.customer_id) for note in loaded if note.text == "new"} == hit


@pytest.mark.parametrize("how", ["fetch", "evaluate", "auto"])
def test_deletes_take_the_right_objects_out(full: Router, how: str) -> None:
    """A deleted row's object leaves the session; its namesakes stay."""
    with full.sessionmaker()() as session:
        loaded, lines = namesakes(session), session.scalars(select(Line)).all()
        options = {"synchronize_session": how}
        for table in (Line, Note):
            statement = delete(table).where(table.id == 1).options(on_shard("shop/s1"))
            session.execute(statement, execution_options=options)
        sent = watch(full)
        assert [note in session for note in loaded.values()] == [True, False, True]
        assert {line.customer_id for line in lines if line not in session} == {1}
        assert [loaded[key].text for key in (0, 2)] == ["n0", "n2"]
        assert sent.sent == []
        session.commit()
        assert sorted(namesakes(session)) == [0, 2]


@pytest.mark.parametrize("how", ["fetch", "evaluate", "auto"])
def test_updates_by_key_keep_objects_right(full: Router, how: str) -> None:
    """A write that its key sends to one shard brings the objects of that shard up to date."""
    with full.sessionmaker()() as session:
        orders = session.scalars(select(Order)).all()
        statement = update(Order).where(Order.customer_id == 4).values(total=Order.total + 100)
        session.execute(statement, execution_options={"synchronize_session": how})
        changed = {order.customer_id for order in orders if order.total >= 100}
        assert changed == {4}
        assert [order.total for order in orders if order.customer_id == 4] == [140, 141]
        session.expire_all()
        assert {order.customer_id for order in orders if order.total >= 100} == {4}


# -- statements that are kept -------------------------------------------------------------------


def test_kept_statements_do_not_leak_routing(full: Router) -> None:
    """A baked or lambda query of a routing session is a plain one in a plain session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bakery: Any = baked.bakery()
    kept = bakery(lambda session: session.query(Customer.id))
    stated = lambda_stmt(lambda: select(Customer.id))
    for _ in range(2):
        with full.sessionmaker()() as session:
            assert sorted(key for (key,) in kept(session).all()) == list(range(6))
            assert sorted(session.scalars(stated)) == list(range(6))
            with session.partition(1, keyspace="shop"):
                assert sorted(key for (key,) in kept(session).all()) == [1, 4]
                assert sorted(session.scalars(stated)) == [1, 4]
        with Session(full.engines["d2"]) as plain:
            assert sorted(key for (key,) in kept(plain).all()) == [2, 5]
            assert sorted(plain.scalars(stated)) == [2, 5]
