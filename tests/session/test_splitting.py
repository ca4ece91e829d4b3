"""INSERTs and bulk operations: every row on the shard its key names, as one statement says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from router import CrossShardError, Router
from tests.conftest import MakeDatabases
from tests.session.conftest import watch
from tests.session.shop import Account, Country, Customer, Note, Order
from tests.session.test_flush import rows

KEYS = [5, 2, 9, 4, 1, 8, 3]
NAMED = [{"id": key, "name": f"c{key}"} for key in KEYS]


def test_rows_as_parameters(shop: Router) -> None:
    """Core and ORM: one statement per shard, the counts summed."""
    sent = watch(shop)
    with shop.sessionmaker().begin() as session:
        result = session.execute(insert(Customer.__table__), NAMED)
        # PostgreSQL does not count where it returns keys.
        assert result.rowcount in (len(KEYS), -1)
        assert not result.returns_rows
        assert result.is_insert
        result = session.execute(
            insert(Order), [{"customer_id": key, "number": 1, "version": 1} for key in KEYS]
        )
    assert rows(shop, "SELECT id FROM customers ORDER BY id") == {
        "d0": [(2,), (4,), (8,)],
        "d1": [(1,), (3,), (5,), (9,)],
    }
    assert rows(shop, "SELECT COUNT(*) FROM orders") == {"d0": [(3,)], "d1": [(4,)]}
    assert sent.count("INSERT") == {"d0": 2, "d1": 2}


def test_rows_as_values(shop: Router) -> None:
    """`values([...])`, of names, of columns, of tuples."""
    with shop.sessionmaker().begin() as session:
        session.execute(insert(Customer).values(NAMED[:3]))
        columns = Customer.__table__.c
        session.execute(
            insert(Customer.__table__).values(
                [{columns.id: row["id"], columns.name: row["name"]} for row in NAMED[3:5]]
            )
        )
        narrow = insert(Customer.__table__).values([(8, "c8", None), (3, "c3", None)])
        session.execute(narrow)
    found = rows(shop, "SELECT id, name FROM customers ORDER BY id")
    assert found == {
        "d0": [(2, "c2"), (4, "c4"), (8, "c8")],
        "d1": [(1, "c1"), (3, "c3"), (5, "c5"), (9, "c9")],
    }


def test_returned_rows_have_the_order_of_the_parameters(shop: Router) -> None:
    """Objects, columns and scalars."""
    with shop.sessionmaker()() as session:
        made = insert(Customer).returning(Customer, sort_by_parameter_order=True)
        found = session.scalars(made, NAMED).all()
        assert [one.id for one in found] == KEYS
        assert session.get(Customer, 9) is found[2]
        columns = insert(Order).returning(Order.customer_id, Order.total.label("sum"))
        result = session.execute(
            columns, [{"customer_id": key, "number": 1, "version": 1} for key in KEYS]
        )
        assert [(row.customer_id, row.sum) for row in result] == [(key, 0) for key in KEYS]
        core = insert(Note.__table__).returning(Note.__table__.c.id)
        notes = [{"id": 100 - key, "customer_id": key, "text": ""} for key in KEYS]
        assert session.scalars(core, notes).all() == [100 - key for key in KEYS]


def test_returned_objects_know_their_shard(shop: Router) -> None:
    """Rows under one primary key are different objects."""
    with shop.sessionmaker()() as session:
        session.execute(insert(Customer), NAMED)
        notes = [{"id": 1, "customer_id": key, "text": f"of {key}"} for key in (1, 2)]
        found = session.scalars(insert(Note).returning(Note), notes).all()
        assert [one.text for one in found] == ["of 1", "of 2"]
        found[0].text = "changed"
        session.flush()
        assert session.scalars(select(Note.text).order_by(Note.text)).all() == ["changed", "of 2"]


def test_inserted_primary_keys(lite: Router) -> None:
    """In the order of the parameters, too."""
    with lite.sessionmaker()() as session:
        result = session.execute(insert(Customer.__table__), NAMED)
        assert [tuple(row) for row in result.inserted_primary_key_rows] == [(key,) for key in KEYS]


def test_bulk_methods(shop: Router) -> None:
    """Mappings and objects go where their keys say."""
    with shop.sessionmaker().begin() as session:
        session.bulk_insert_mappings(Customer, NAMED)
        session.bulk_save_objects(
            [Order(customer_id=key, number=1, total=key, version=1) for key in KEYS]
        )
        changes = [{"id": key, "name": f"new {key}"} for key in KEYS]
        session.bulk_update_mappings(Customer, changes)
    with shop.sessionmaker().begin() as session:
        found = session.scalars(select(Customer).order_by(Customer.id)).all()
        assert [one.name for one in found] == [f"new {key}" for key in sorted(KEYS)]
        for one in found:
            one.name = "saved"
        session.bulk_save_objects(found)
        session.expire_all()
    with shop.sessionmaker()() as session:
        assert set(session.scalars(select(Customer.name))) == {"saved"}
        assert sum(session.scalars(select(Order.total))) == sum(KEYS)


def test_bulk_update_by_primary_key(shop: Router) -> None:
    """One statement per shard; objects in the session follow."""
    with shop.sessionmaker().begin() as session:
        session.execute(insert(Customer), NAMED)
        loaded = session.get_one(Customer, 9)
        session.execute(update(Customer), [{"id": key, "name": f"n{key}"} for key in KEYS])
        assert loaded.name == "n9"
        assert sorted(session.scalars(select(Customer.name))) == sorted(f"n{key}" for key in KEYS)


def test_upserts_are_split(shop: Router, dialect: str) -> None:
    """Where the conflict is about the shard key itself."""
    inserting: Any = {"postgresql": postgresql, "sqlite": sqlite, "mariadb": mysql}[dialect]
    made = inserting.insert(Customer)
    if dialect == "mariadb":
        made = made.on_duplicate_key_update(name=made.inserted.name)
    else:
        made = made.on_conflict_do_update(index_elements=["id"], set_={"name": made.excluded.name})
    with shop.sessionmaker().begin() as session:
        session.execute(insert(Customer), NAMED[:4])
        session.execute(made, [{"id": key, "name": "again"} for key in KEYS])
        session.execute(made.values([{"id": key, "name": "last"} for key in (1, 2)]))
    with shop.sessionmaker()() as session:
        names = {one.id: one.name for one in session.scalars(select(Customer))}
    assert names == {key: "last" if key in (1, 2) else "again" for key in KEYS}


def test_a_conflict_that_another_shard_may_have_is_refused(lite: Router) -> None:
    """A note with the same primary key may lie on a shard that is not asked."""
    made = sqlite.insert(Note).on_conflict_do_nothing(index_elements=["id"])
    with lite.sessionmaker()() as session, pytest.raises(CrossShardError, match="R305"):
        session.execute(made, [{"id": 1, "customer_id": key, "text": ""} for key in (1, 2)])


def test_replacing_rows_is_refused_across_shards(lite: Router) -> None:
    """A prefix may mean that rows are replaced, of which others are elsewhere."""
    made = insert(Customer).prefix_with("OR REPLACE")
    with lite.sessionmaker()() as session, pytest.raises(CrossShardError, match="OR REPLACE"):
        session.execute(made, NAMED)


def test_one_shard_fails(shop: Router) -> None:
    """The error names the shard, nothing is committed, and the session goes on."""
    with shop.sessionmaker().begin() as session:
        session.add(Customer(id=9, name="first"))
    with shop.sessionmaker()() as session:
        with pytest.raises(IntegrityError, match="shop/s1") as caught:
            session.execute(insert(Customer), NAMED)
        assert caught.value.orig is not None
        with pytest.raises((CrossShardError, Exception)):
            session.commit()
        session.rollback()
        assert session.scalars(select(Customer.id)).all() == [9]
        session.execute(insert(Customer), [row for row in NAMED if row["id"] != 9])
        session.commit()
    with shop.sessionmaker()() as session:
        assert sorted(session.scalars(select(Customer.id))) == sorted(KEYS)


def test_a_failed_part_cannot_be_committed(lite: Router) -> None:
    """Where the database would go on, the transaction does not."""
    with lite.sessionmaker().begin() as session:
        session.add(Customer(id=9, name="first"))
    with lite.sessionmaker()() as session:
        with pytest.raises(IntegrityError):
            session.execute(insert(Customer), NAMED)
        with pytest.raises(CrossShardError, match="R311"):
            session.commit()
        session.rollback()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(insert(Customer), NAMED)
        session.add(Customer(id=10, name="kept"))
        session.commit()
    with lite.sessionmaker()() as session:
        assert sorted(session.scalars(select(Customer.id))) == [9, 10]


def test_other_tables_are_as_before(shop: Router) -> None:
    """Unsharded and reference tables take many rows, too."""
    with shop.sessionmaker().begin() as session:
        session.execute(insert(Account), [{"name": "a"}, {"name": "b"}])
        added = datetime(2024, 1, 1)  # noqa: DTZ001
        session.execute(
            insert(Country), [{"id": n, "name": f"n{n}", "added": added} for n in (1, 2)]
        )
    assert rows(shop, "SELECT COUNT(*) FROM countries") == {"d0": [(2,)], "d1": [(2,)]}


# -- defaults ----------------------------------------------------------------------------------


class Base(DeclarativeBase):
    """Base of the model below."""


numbers: Iterator[int] = itertools.count()


class Event(Base):
    """A row with values that nobody gives."""

    __tablename__ = "events"

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(default=lambda: next(numbers))
    twice: Mapped[int] = mapped_column(
        default=lambda context: context.get_current_parameters()["key"] * 2
    )
    label: Mapped[str | None]
    made: Mapped[datetime | None] = mapped_column(default=func.now())
    renewed: Mapped[datetime | None] = mapped_column(onupdate=func.now())
    turn: Mapped[int | None] = mapped_column(onupdate=lambda: next(numbers))


@pytest.fixture
def events(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """Two shards of events."""
    urls = make_databases(dialect, 2)
    shard_map = {
        "version": 1,
        "databases": {f"d{n}": {"url": url} for n, url in enumerate(urls)},
        "keyspaces": {
            "log": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": {"events": "key"},
            }
        },
        "transactions": {"two_phase": dialect != "sqlite"},
    }
    with Router.from_dict(shard_map, metadata=Base.metadata) as router:
        for table in Base.metadata.tables.values():
            table.c.label.type.length = 40
        router.create_all()
        yield router


@pytest.mark.parametrize("form", ["parameters", "core", "values"])
def test_defaults_are_evaluated_in_the_order_of_the_rows(events: Router, form: str) -> None:
    """As one database would: a counter counts the rows as they were given."""
    given = [{"key": key} for key in KEYS]
    target = Event if form != "core" else Event.__table__
    start = next(numbers) + 1
    with events.sessionmaker().begin() as session:
        if form == "values":
            session.execute(insert(target).values(given))
        else:
            session.execute(insert(target), given)
    with events.sessionmaker()() as session:
        found = {one.key: one for one in session.scalars(select(Event))}
    assert [found[key].number - start for key in KEYS] == list(range(len(KEYS)))
    assert all(one.twice == 2 * one.key for one in found.values())


def test_the_time_of_a_statement_is_one(events: Router) -> None:
    """`now()` in values has one value on all shards, as the function itself would give it."""
    with events.sessionmaker()() as session:
        for made in (insert(Event), insert(Event.__table__)):
            session.execute(made, [{"key": key} for key in KEYS])
            assert len(set(session.scalars(select(Event.made)))) == 1
            session.rollback()
        session.execute(insert(Event).values([{"key": key} for key in KEYS]))
        assert len(set(session.scalars(select(Event.made)))) == 1
    with events.sessionmaker().begin() as session:
        session.execute(insert(Event).values([{"key": key, "made": func.now()} for key in KEYS]))
    with events.sessionmaker().begin() as session:
        assert len(set(session.scalars(select(Event.made)))) == 1
        objects = session.scalars(select(Event)).all()
        session.execute(update(Event).values(label="x"))
        assert {one.label for one in objects} == {"x"}
        assert len({one.renewed for one in objects}) == 1
        assert len({one.turn for one in objects}) == 1
        session.expire_all()
        assert len({one.turn for one in objects}) == 1
        assert isinstance(objects[0].renewed, datetime)
        session.execute(update(Event).values(made=func.current_timestamp()))
        assert len({one.made for one in objects}) == 1


def test_values_of_each_shard_are_refused(lite: Router) -> None:
    """A function that nothing is known of, and a sequence."""
    for value in (func.nextval("numbers"), func.unknown()):
        made = insert(Customer).values([{"id": key, "name": value} for key in (1, 2)])
        with lite.sessionmaker()() as session, pytest.raises(CrossShardError, match="R305"):
            session.execute(made)


def test_a_handler_sees_the_statement(lite: Router) -> None:
    """Handlers of the session see it once, whatever becomes of it."""
    seen = []
    make = lite.sessionmaker()
    event.listen(make, "do_orm_execute", lambda state: seen.append(state.is_insert))
    with make.begin() as session:
        session.execute(insert(Customer), NAMED)
    assert seen == [True]
