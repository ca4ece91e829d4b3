"""INSERT ... SELECT: within the shards where keys are kept, through the session elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, literal, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from router import CrossShardError, Router
from tests.session.conftest import watch
from tests.session.shop import Account, Customer, Line, Note, Order, Tag
from tests.session.test_fanned import KEYS, fill
from tests.session.test_flush import rows


@pytest.fixture
def full(shop: Router) -> Router:
    """A shop with rows on both shards."""
    fill(shop)
    return shop


def test_rows_that_keep_their_shard_never_leave_it(full: Router) -> None:
    """One statement per shard where the new key is the key of the row that was read."""
    sent = watch(full)
    copied = select(Order.number + 100, Order.customer_id, func.concat("of ", Order.total))
    if full.engines["d0"].dialect.name == "sqlite":
        text = literal("of ") + func.abs(Order.total)
        copied = select(Order.number + 100, Order.customer_id, text)
    copied = copied.where(Order.number == Order.customer_id - 1)
    with full.sessionmaker().begin() as session:
        made = insert(Note.__table__).from_select(["id", "customer_id", "text"], copied)
        assert session.execute(made).rowcount in (len(KEYS), -1)
    assert sent.count("INSERT") == {"d0": 1, "d1": 1}
    assert sent.count("SELECT") == {}
    found = rows(full, "SELECT customer_id FROM notes WHERE id > 99 ORDER BY id")
    assert found == {"d0": [(2,), (4,), (6,)], "d1": [(1,), (3,), (5,)]}


def test_one_shard(full: Router) -> None:
    """With whatever the SELECT does there."""
    summed = select(Order.customer_id, func.min(Order.number) + 70, func.count() + 40)
    summed = summed.where(Order.customer_id == 4).group_by(Order.customer_id)
    sent = watch(full)
    with full.sessionmaker().begin() as session:
        session.add(Note(id=70, customer_id=4, text=""))
        session.flush()
        session.execute(insert(Line).from_select(["customer_id", "note_id", "id"], summed))
    assert sent.count("INSERT") == {"d0": 2}
    with full.sessionmaker()() as session:
        assert session.execute(select(Line.id, Line.customer_id)).all() == [(44, 4)]


def test_rows_that_move(full: Router) -> None:
    """A key that is computed: the rows are read first, each goes where its new key says."""
    moved = select(Order.customer_id + 1, Order.number + 50, Order.total, Order.version)
    moved = moved.order_by(Order.customer_id)
    names = ["customer_id", "number", "total", "version"]
    with full.sessionmaker().begin() as session:
        session.add(Customer(id=7, name="last"))
        result = session.execute(insert(Order).from_select(names, moved))
        assert result.rowcount in (sum(KEYS), -1)
    with full.sessionmaker()() as session:
        found = session.execute(
            select(Order.customer_id, func.count(), func.sum(Order.total))
            .where(Order.number >= 50)
            .group_by(Order.customer_id)
            .order_by(Order.customer_id)
        ).all()
    assert [tuple(map(int, row)) for row in found] == [(k + 1, k, k * k) for k in KEYS]
    assert rows(full, "SELECT DISTINCT customer_id % 2 FROM orders") == {"d0": [(0,)], "d1": [(1,)]}


def test_into_tables_that_are_not_sharded(full: Router) -> None:
    """From all shards, to a database of its own and to every copy."""
    with full.sessionmaker().begin() as session:
        everybody = select(Customer.id, Customer.name)
        session.execute(insert(Account).from_select(["id", "name"], everybody))
        session.execute(
            insert(Tag).from_select(["id"], select(func.max(Order.number) + 10).select_from(Order))
        )
    with full.sessionmaker()() as session:
        assert sorted(session.scalars(select(Account.id))) == list(KEYS)
    assert rows(full, "SELECT id FROM tags WHERE id > 2") == {"d0": [(15,)], "d1": [(15,)]}


def test_from_a_table_that_is_not_sharded(full: Router) -> None:
    """Its rows are dealt to the shards, pending ones included."""
    with full.sessionmaker().begin() as session:
        session.add_all([Account(id=key, name=f"a{key}") for key in (10, 11)])
        made = insert(Customer).from_select(["id", "name"], select(Account.id, Account.name))
        session.execute(made)
        none = select(Account.id + 2, Account.name).where(Account.id > 99)
        assert session.execute(insert(Customer).from_select(["id", "name"], none)).rowcount == 0
    assert rows(full, "SELECT id FROM customers WHERE id > 9") == {"d0": [(10,)], "d1": [(11,)]}


def test_rows_that_are_there_already(full: Router, dialect: str) -> None:
    """ON CONFLICT goes with the rows."""
    inserting: Any = {"postgresql": postgresql, "sqlite": sqlite, "mariadb": mysql}[dialect]
    # Without a WHERE, SQLite takes ON for a join.
    source = select(Customer.id + 3, Customer.name).where(Customer.id > 0)
    made = inserting.insert(Customer.__table__).from_select(["id", "name"], source)
    if dialect == "mariadb":
        made = made.on_duplicate_key_update(name="twice")
    else:
        made = made.on_conflict_do_update(index_elements=["id"], set_={"name": "twice"})
    with full.sessionmaker().begin() as session:
        session.execute(made)
    with full.sessionmaker()() as session:
        names = {one.id: one.name for one in session.scalars(select(Customer))}
    assert names == {key: "twice" if key in (4, 5, 6) else "c" for key in range(1, 10)}


def test_what_is_refused(full: Router) -> None:
    """Values that may change on their way, and rows that may be elsewhere."""
    moved = select(Order.customer_id + 1, func.unknown(Order.total), literal("x"))
    names = ["customer_id", "id", "text"]
    with full.sessionmaker()() as session:
        with pytest.raises(CrossShardError, match="R305"):
            session.execute(insert(Note).from_select(names, moved))
        with pytest.raises(CrossShardError, match="R305"):
            session.execute(
                insert(Customer).from_select(["id", "name"], select(Account.id, Account.name)),
                bind_arguments={"shard": "shop/s0"},
            )
