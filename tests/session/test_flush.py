"""Flushes: every row on the shard its key names, in batches."""

from __future__ import annotations

import pytest
from sqlalchemy import event, inspect, select, text, update
from sqlalchemy.orm import Session

from router import CrossShardError, Router, RoutingError
from tests.session.conftest import watch
from tests.session.shop import Account, Country, Customer, Line, Note, Order, Tag


def rows(router: Router, sql: str) -> dict[str, list[tuple[object, ...]]]:
    """Return database name -> rows of `sql` there, for the databases of the shop."""
    found = {}
    for name in router.engines:
        if name != "main":
            with router.engines[name].connect() as connection:
                found[name] = [tuple(row) for row in connection.execute(text(sql))]
    return found


def test_each_row_lies_where_its_key_says(shop: Router) -> None:
    """Keys come from attributes and from related parents."""
    with shop.sessionmaker().begin() as session:
        for key in range(6):
            customer = Customer(id=key, name="c", orders=[Order(number=n) for n in range(3)])
            session.add(customer)
            session.add(Note(id=key, customer=customer, text="t"))
        session.add(Account(name="main"))
    assert rows(shop, "SELECT id FROM customers ORDER BY id") == {
        "d0": [(0,), (2,), (4,)],
        "d1": [(1,), (3,), (5,)],
    }
    assert rows(shop, "SELECT DISTINCT customer_id % 2 FROM orders") == {"d0": [(0,)], "d1": [(1,)]}
    assert rows(shop, "SELECT DISTINCT customer_id % 2 FROM notes") == {"d0": [(0,)], "d1": [(1,)]}


def test_inserts_updates_and_deletes_go_in_batches(lite: Router) -> None:
    """Interleaved rows cost one statement for each table and shard."""
    make = lite.sessionmaker()
    sent = watch(lite)
    with make.begin() as session:
        session.add_all(Customer(id=key, name="c", orders=[Order(number=1)]) for key in range(30))
    assert sent.count("INSERT") == {"d0": 2, "d1": 2, "d2": 2}
    with make.begin() as session:
        for customer in session.scalars(select(Customer)):
            customer.name = "changed"
        session.flush()
        assert sent.count("UPDATE") == {"d0": 1, "d1": 1, "d2": 1}
    with make.begin() as session:
        for order in session.scalars(select(Order)):
            session.delete(order)
        session.flush()
        assert sent.count("DELETE") == {"d0": 1, "d1": 1, "d2": 1}


def test_batches_when_parents_are_linked_from_their_side_only(lite: Router) -> None:
    """A key that is copied from the parent during the flush still makes batches."""
    with lite.sessionmaker().begin() as session:
        for key in range(12):
            customer = Customer(id=key, name="c")
            customer.notes = [Note(id=key, text="t", lines=[])]
            session.add(customer)
        sent = watch(lite)
        session.flush()
        assert sent.count("INSERT") == {"d0": 2, "d1": 2, "d2": 2}


def test_a_key_changed_by_an_event_handler_is_refused(lite: Router) -> None:
    """`before_insert` runs after the shard was chosen."""

    def move(mapper: object, connection: object, target: Customer) -> None:
        target.id += 1

    event.listen(Customer, "before_insert", move)
    try:
        with lite.sessionmaker()() as session:
            session.add(Customer(id=1, name="c"))
            with pytest.raises(RoutingError, match="R203"):
                session.commit()
    finally:
        event.remove(Customer, "before_insert", move)
    assert not any(rows(lite, "SELECT id FROM customers").values())


@pytest.mark.parametrize(
    ("key", "id"), [(None, "R205"), ("7", "R204"), (7.0, "R204"), (True, "R204")]
)
def test_bad_keys(lite: Router, key: object, id: str) -> None:
    """A missing key or one of the wrong type fails the flush; nothing is written."""
    with lite.sessionmaker()() as session:
        session.add(Customer(id=2, name="good"))
        session.add(Note(id=1, customer_id=key, text="bad"))
        with pytest.raises(RoutingError, match=id):
            session.commit()
    assert not any(rows(lite, "SELECT id FROM customers").values())


def test_reference_rows_are_equal_on_every_copy(shop: Router) -> None:
    """Serial keys and server defaults are generated once."""
    make = shop.sessionmaker()
    with make.begin() as session:
        session.add_all([Country(name="DE"), Country(name="FR")])
    with make.begin() as session:
        session.add(Country(name="PE"))
        country = session.scalars(select(Country).where(Country.name == "FR")).one()
        country.name = "France"
        session.delete(session.scalars(select(Country).where(Country.name == "DE")).one())
    copies = []
    for name in ("d0", "d1"):
        with shop.engines[name].connect() as connection:
            copy = connection.execute(select(Country.__table__).order_by(Country.id))
            copies.append([tuple(row) for row in copy])
    assert [name for _, name, _ in copies[0]] == ["France", "PE"]
    assert copies[0] == copies[1]


def test_reference_rows_come_before_the_rows_that_refer_to_them(shop: Router) -> None:
    """A foreign key to a new reference row holds on every shard."""
    with shop.sessionmaker().begin() as session:
        country = Country(name="DE")
        session.add_all(Customer(id=key, name="c", country=country) for key in range(4))
    assert [len(found) for found in rows(shop, "SELECT 1 FROM countries").values()] == [1, 1]


def test_copies_that_differ_are_noticed(lite: Router) -> None:
    """A write that changes other numbers of rows on other copies fails."""
    make = lite.sessionmaker()
    with make.begin() as session:
        session.add(Tag(id=1))
    with lite.engines["d1"].begin() as connection:
        connection.execute(text("DELETE FROM tags"))
    with make() as session:
        with pytest.raises(CrossShardError, match="R307"):
            session.execute(update(Tag).where(Tag.id == 1).values(id=2))
        session.rollback()
        session.delete(session.get_one(Tag, 1))
        with pytest.raises(CrossShardError, match="R307"):
            session.flush()
        session.rollback()
    assert rows(lite, "SELECT id FROM tags")["d0"] == [(1,)]


def test_association_rows(shop: Router) -> None:
    """Rows of a sharded `secondary` table go where their customers are."""
    make = shop.sessionmaker()
    with make.begin() as session:
        tags = [Tag(id=1), Tag(id=2)]
        session.add_all(Customer(id=key, name="c", tags=list(tags)) for key in range(4))
    with make.begin() as session:
        customer = session.get_one(Customer, 3)
        customer.tags.pop()
    found = rows(shop, "SELECT customer_id FROM tags_of ORDER BY customer_id")
    assert found == {"d0": [(0,), (0,), (2,), (2,)], "d1": [(1,), (1,), (3,)]}
    with make() as session:
        customer = session.get_one(Customer, 2)
        assert len(customer.tags) == 2


def test_deleting_a_parent_deletes_its_orders(shop: Router) -> None:
    """Cascades stay on the shard."""
    make = shop.sessionmaker()
    with make.begin() as session:
        session.add_all(
            Customer(id=key, name="c", orders=[Order(number=1), Order(number=2)]) for key in (1, 2)
        )
    with make.begin() as session:
        session.delete(session.get_one(Customer, 1))
        customer = session.get_one(Customer, 2)
        customer.orders.pop()
    assert [len(found) for found in rows(shop, "SELECT 1 FROM orders").values()] == [1, 0]


def test_the_same_primary_key_on_two_shards(shop: Router) -> None:
    """Rows whose key does not name their shard are two objects, and stay apart."""
    make = shop.sessionmaker()
    with make.begin() as session:
        for key in (1, 2):
            note = Note(id=7, text=f"of {key}", lines=[Line(id=1, customer_id=key)])
            session.add(Customer(id=key, name="c", notes=[note]))
    with make.begin() as session:
        notes = session.scalars(select(Note).where(Note.id == 7)).all()
        assert {note.text for note in notes} == {"of 1", "of 2"}
        for note in notes:
            note.text += " changed"
            assert [line.customer_id for line in note.lines] == [note.customer_id]
            assert inspect(note).identity_token == f"shop/s{note.customer_id % 2}"
    assert rows(shop, "SELECT text FROM notes") == {
        "d0": [("of 2 changed",)],
        "d1": [("of 1 changed",)],
    }


def test_rollback_and_savepoints(shop: Router) -> None:
    """What is rolled back is gone everywhere."""
    make = shop.sessionmaker()
    with make() as session:
        session.add_all([Customer(id=1, name="kept"), Customer(id=2, name="kept")])
        session.flush()
        savepoint = session.begin_nested()
        session.add_all([Customer(id=3, name="gone"), Customer(id=4, name="gone")])
        session.flush()
        savepoint.rollback()
        session.commit()
        session.add(Customer(id=5, name="gone"))
        session.flush()
        session.rollback()
    found = rows(shop, "SELECT name FROM customers")
    assert found == {"d0": [("kept",)], "d1": [("kept",)]}


def test_merge(shop: Router) -> None:
    """Merging finds the row on its own shard, or makes it there."""
    make = shop.sessionmaker()
    with make.begin() as session:
        session.add(Customer(id=1, name="c", notes=[Note(id=1, text="old")]))
        session.add(Customer(id=2, name="c"))
    with make.begin() as session:
        session.merge(Note(id=1, customer_id=1, text="new"))
        session.merge(Note(id=1, customer_id=2, text="other"))
        session.merge(Customer(id=1, name="merged"))
    assert rows(shop, "SELECT text FROM notes") == {"d0": [("other",)], "d1": [("new",)]}
    assert rows(shop, "SELECT name FROM customers")["d1"] == [("merged",)]


def test_other_sessions_are_not_touched(lite: Router) -> None:
    """A plain session of the same models flushes as ever, before and after."""
    engine = lite.engines["d0"]
    for _ in range(2):
        with Session(engine) as session:
            session.add_all([Customer(id=key, name="c") for key in (1, 2)])
            session.flush()
            session.add(Country(name="x"))
            session.flush()
            session.rollback()
        with lite.sessionmaker()() as session:
            session.add(Customer(id=1, name="c"))
            session.flush()
