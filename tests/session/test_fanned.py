"""UPDATE and DELETE by criteria over several shards: each about its own rows, as of one table."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import bindparam, delete, exists, func, insert, select, update
from sqlalchemy.exc import ArgumentError, IntegrityError

from router import CrossShardError, Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.conftest import watch
from tests.session.shop import Country, Customer, Note, Order, Tag, open_router

KEYS = range(1, 7)


def fill(router: Router) -> None:
    """Write six customers, each with as many orders as the key says, and a note."""
    with router.sessionmaker().begin() as session:
        session.add_all([Tag(id=1), Tag(id=2)])
        session.add_all(
            Customer(
                id=key,
                name="c",
                orders=[Order(number=n, total=key) for n in range(key)],
                notes=[Note(id=key % 2, text="n")] if key < 3 else [],
            )
            for key in KEYS
        )


@pytest.fixture
def full(shop: Router) -> Router:
    """A shop with rows on both shards."""
    fill(shop)
    return shop


def totals(router: Router) -> dict[int, int]:
    """Return customer -> sum of the totals, as the database has it."""
    with router.sessionmaker()() as session:
        pairs = session.execute(select(Order.customer_id, Order.total)).all()
    return {key: sum(total for owner, total in pairs if owner == key) for key in KEYS}


def test_update_of_all_rows(full: Router) -> None:
    """One statement per shard; the counts are summed."""
    sent = watch(full)
    with full.sessionmaker().begin() as session:
        result = session.execute(update(Order).values(total=Order.total + 1))
        assert result.rowcount == sum(KEYS)
        assert not result.returns_rows
    assert sent.count("UPDATE") == {"d0": 1, "d1": 1}
    assert totals(full) == {key: key * (key + 1) for key in KEYS}


def test_only_the_shards_of_the_keys_are_asked(lite: Router) -> None:
    """An IN list, a range of keys that a shard does not have."""
    fill(lite)
    sent = watch(lite)
    with lite.sessionmaker().begin() as session:
        result = session.execute(delete(Order).where(Order.customer_id.in_([1, 4, 2])))
        assert result.rowcount == 7
    assert sent.count("DELETE") == {"d1": 1, "d2": 1}


@pytest.mark.parametrize("given", ["statement", "execution"])
@pytest.mark.parametrize(
    "write",
    [
        update(Order).values(total=1),
        update(Order)
        .values(total=1)
        .where(Order.total == select(func.max(Note.id)).scalar_subquery()),
        update(Order).values(customer_id=7).where(Order.number == 5),
    ],
    ids=["spread", "found", "moved"],
)
def test_how_objects_follow_has_to_be_known(lite: Router, write: Any, given: str) -> None:
    """The error is SQLAlchemy's own, however the write would be made; None is as good as False."""
    fill(lite)
    options = {"synchronize_session": "nonsense"}
    told, others = (options, {}) if given == "execution" else ({}, options)
    with lite.sessionmaker()() as session:
        with pytest.raises(ArgumentError, match="Valid strategies for session synchronization"):
            session.execute(write.execution_options(**others), execution_options=told)
        session.rollback()
        options["synchronize_session"] = None  # type: ignore[assignment]
        session.execute(write.execution_options(**others), execution_options=told)


@pytest.mark.parametrize("how", ["auto", "evaluate", "fetch", False, None])
def test_objects_follow_an_update(full: Router, how: Any) -> None:
    """Each object is brought in step once, whichever shard its row is on."""
    with full.sessionmaker()() as session:
        orders = session.scalars(select(Order)).all()
        notes = session.scalars(select(Note)).all()
        before = [one.total for one in orders]
        changed = update(Order).where(Order.number > 0).values(total=Order.total + 10)
        session.execute(changed, execution_options={"synchronize_session": how})
        added = [0 if one.number == 0 or not how else 10 for one in orders]
        found = [one.__dict__.get("total", -1) for one in orders]
        assert found == [a + b for a, b in zip(before, added, strict=True)]
        session.execute(
            update(Note).values(text=Note.text + "x"),
            execution_options={"synchronize_session": how},
        )
        session.flush()
        session.expire_all()
        assert [one.text for one in notes] == ["nx", "nx"]
        assert sum(one.total for one in orders) == sum(before) + 10 * sum(n - 1 for n in KEYS)


@pytest.mark.parametrize("how", ["auto", "evaluate", "fetch"])
def test_objects_follow_a_delete(full: Router, how: Any) -> None:
    """Objects whose rows are gone are gone."""
    with full.sessionmaker()() as session:
        orders = session.scalars(select(Order)).all()
        gone = delete(Order).where(Order.total.in_([2, 3]))
        session.execute(gone, execution_options={"synchronize_session": how})
        assert {one.customer_id for one in orders if one in session} == {1, 4, 5, 6}
        notes = session.scalars(select(Note)).all()
        session.execute(delete(Note), execution_options={"synchronize_session": how})
        assert not any(one in session for one in notes)


def test_auto_fetches_what_it_cannot_evaluate(full: Router) -> None:
    """A criterion that only the database knows."""
    with full.sessionmaker()() as session:
        orders = session.scalars(select(Order)).all()
        wide = func.length(func.concat(Order.total, "")) == 1
        if full.engines["d0"].dialect.name == "sqlite":
            wide = func.length(Order.total) == 1
        session.execute(update(Order).where(wide, Order.number == 0).values(total=99))
        assert [one.total for one in orders if one.number == 0] == [99] * len(KEYS)


def test_returned_rows(shop: Router, dialect: str) -> None:
    """Of all shards, as rows and as objects."""
    fill(shop)
    if dialect == "mariadb":
        with shop.sessionmaker()() as session:
            found = session.execute(delete(Order).where(Order.number == 0).returning(Order.total))
            assert sorted(row.total for row in found) == list(KEYS)
        return
    with shop.sessionmaker()() as session:
        loaded = session.scalars(select(Order)).all()
        changed = update(Order).where(Order.number == 0).values(total=Order.total * 2)
        objects = session.scalars(changed.returning(Order)).all()
        assert set(objects) <= set(loaded)
        assert sorted(one.total for one in objects) == [2 * key for key in KEYS]
        result = session.execute(delete(Order).returning(Order.customer_id, Order.number))
        assert sorted(map(tuple, result)) == [(key, n) for key in KEYS for n in range(key)]
        notes = session.scalars(update(Note).values(text="r").returning(Note)).all()
        assert {one.text for one in notes} == {"r"}
        assert {one.customer_id for one in notes} == {1, 2}


def test_update_from_a_colocated_table(full: Router) -> None:
    """Joined on equal shard keys, every shard has the other row, too."""
    with full.sessionmaker().begin() as session:
        session.execute(update(Customer).where(Customer.id > 4).values(name="big"))
        named = update(Order).where(Order.customer_id == Customer.id, Customer.name == "big")
        session.execute(named.values(total=0).execution_options(synchronize_session=False))
    assert {key for key, total in totals(full).items() if total == 0} == {5, 6}


def test_subqueries_that_are_colocated(full: Router) -> None:
    """In criteria and in values, aggregates over the row's own shard included."""
    own = select(Order.total).where(Order.customer_id == Customer.id, Order.number == 3)
    counted = select(func.count()).where(Order.customer_id == Customer.id).scalar_subquery()
    with full.sessionmaker().begin() as session:
        session.execute(delete(Note).where(~exists().where(Order.customer_id == Note.customer_id)))
        session.execute(update(Customer).where(own.exists()).values(name=counted + 10))
    with full.sessionmaker()() as session:
        names = {one.id: one.name for one in session.scalars(select(Customer))}
        assert len(session.scalars(select(Note)).all()) == 2
    assert names == {1: "c", 2: "c", 3: "c", 4: "14", 5: "15", 6: "16"}


def test_a_reference_table_counts_once(full: Router) -> None:
    """Though every copy is written."""
    with full.sessionmaker().begin() as session:
        assert session.execute(delete(Tag)).rowcount == 2
        named = update(Customer).where(exists().where(Country.id == Customer.country_id))
        assert session.execute(named.values(name="x")).rowcount == 0


def test_many_sets_of_parameters(full: Router) -> None:
    """Each goes where its own key says, in the order given on every shard."""
    orders = Order.__table__
    changed = (
        update(orders)
        .where(orders.c.customer_id == bindparam("owner"))
        .values(total=bindparam("new"))
    )
    given = [{"owner": key % 6 + 1, "new": key} for key in range(12)]
    with full.sessionmaker().begin() as session:
        assert session.execute(changed, given).rowcount == 2 * sum(KEYS)
    assert totals(full) == {key: key * (key + 5) for key in KEYS}


def test_what_no_shard_can_decide_is_refused(full: Router) -> None:
    """With the reason; nothing is written."""
    whole = select(func.avg(Order.total)).scalar_subquery()
    writes = {
        "values of all rows": update(Order).values(total=whole),
        "a sequence": update(Order).values(total=func.nextval("x")),
        "seeded": update(Order).values(total=func.random(1)),
        "one dialect": update(Order).values(total=1).with_dialect_options(mysql_limit=2),
        "ignored": update(Order).values(total=1).prefix_with("OR IGNORE"),
        "unsharded": update(Tag).values(id=select(func.max(Order.number)).scalar_subquery()),
        "not colocated": update(Customer).values(name="x").where(func.nextval("x") == whole),
    }
    with full.sessionmaker()() as session:
        for write in writes.values():
            with pytest.raises((CrossShardError, RoutingError), match=r"R30[13458]"):
                session.execute(write)


def test_scatter_may_be_denied(make_databases: MakeDatabases) -> None:
    """The policy is about writes without a key, too."""
    with open_router(make_databases("sqlite", 3), scatter="deny") as router:
        fill(router)
        with router.sessionmaker()() as session:
            with pytest.raises(CrossShardError, match="R309"):
                session.execute(delete(Order))
            session.execute(delete(Order).where(Order.customer_id.in_([1, 2, 3])))
            session.execute(insert(Customer), [{"id": key, "name": ""} for key in (8, 9, 10)])


def test_a_failing_shard(full: Router) -> None:
    """Names itself; what the others did is undone."""
    with full.sessionmaker()() as session:
        session.execute(update(Order).where(Order.customer_id == 2).values(total=77))
        with pytest.raises(IntegrityError, match="shop/s") as caught:
            session.execute(update(Order).where(Order.customer_id > 1).values(number=0))
        assert caught.value.orig is not None
        with pytest.raises(Exception, match=r"R311|R401|rolled back"):
            session.commit()
        session.rollback()
        assert session.scalars(select(func.count()).select_from(Order)).one() == sum(KEYS)
    assert totals(full) == {key: key * key for key in KEYS}
