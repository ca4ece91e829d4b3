"""UPDATE and DELETE whose rows are found first: by other shards' rows, or to move them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, event, func, insert, select, text, tuple_, update
from sqlalchemy.orm import aliased

from router import CrossShardError, Router, RouterError, RoutingError, retry
from tests.session.conftest import watch
from tests.session.shop import Account, Customer, Line, Note, Order

KEYS = range(6)


@pytest.fixture
def full(shop: Router) -> Router:
    """A shop with six customers, three orders and a note each, and four accounts."""
    fill(shop)
    return shop


def fill(router: Router) -> None:
    """Write the rows."""
    with router.sessionmaker().begin() as session:
        session.add_all(Account(id=n, name=f"a{n}") for n in range(1, 5))
        session.add_all(
            Customer(
                id=key,
                name=f"c{key}",
                orders=[Order(number=n, total=key) for n in range(3)],
                notes=[Note(id=key, text=f"n{key}")],
            )
            for key in KEYS
        )


def orders(router: Router) -> list[tuple[int, int, int]]:
    """Return every order: its customer, its number and its total, with the shard checked."""
    found = []
    for name in ("d0", "d1"):
        with router.engines[name].connect() as connection:
            query = text("SELECT customer_id, number, total FROM orders")
            rows = [tuple(row) for row in connection.execute(query)]
        assert {row[0] % 2 for row in rows} <= {int(name[1])}
        found += rows
    return sorted(found)


# -- rows that other shards decide about --------------------------------------------------------


def test_delete_by_rows_of_another_database(full: Router) -> None:
    """The subquery is answered first; each shard deletes its own rows by their keys."""
    chosen = delete(Order).where(Order.total.in_(select(Account.id).where(Account.name > "a2")))
    with full.sessionmaker().begin() as session:
        loaded = session.get_one(Order, (4, 0))
        assert session.execute(chosen).rowcount == 6
        assert loaded not in session
    assert {row[0] for row in orders(full)} == {0, 1, 2, 5}


def test_delete_by_rows_of_other_shards(full: Router) -> None:
    """What is read is the same table, of all shards."""
    other = aliased(Order)
    largest = select(func.max(other.total)).scalar_subquery()
    with full.sessionmaker().begin() as session:
        assert session.execute(delete(Order).where(Order.total == largest)).rowcount == 3
        assert session.execute(delete(Order).where(Order.total == largest)).rowcount == 3
    assert {row[0] for row in orders(full)} == {0, 1, 2, 3}


def test_update_with_a_value_of_each_row(full: Router) -> None:
    """Computed where it can be, and written by key; what a row gives stays an expression."""
    name = select(func.max(Account.name)).where(Account.id == Order.total).scalar_subquery()
    number = select(func.max(Account.id)).where(Account.id < Order.total).scalar_subquery()
    changed = (
        update(Order)
        .where(name.is_not(None))
        .values(total=func.coalesce(number, 90), version=Order.version + 5)
    )
    with full.sessionmaker()() as session:
        objects = session.scalars(select(Order)).all()
        assert session.execute(changed).rowcount == 12
        totals = {(one.customer_id, one.total, one.version) for one in objects}
        assert totals == {(0, 0, 1), (1, 90, 6), (2, 1, 6), (3, 2, 6), (4, 3, 6), (5, 5, 1)}
        session.commit()
    assert {row[0]: row[2] for row in orders(full)} == {0: 0, 1: 90, 2: 1, 3: 2, 4: 3, 5: 5}


def test_a_table_that_is_not_sharded(full: Router) -> None:
    """Deleted and updated by rows of all shards."""
    ordered = select(Order.total).where(Order.number == 1)
    with full.sessionmaker().begin() as session:
        renamed = update(Account).where(Account.id.in_(ordered)).values(name="ordered")
        assert session.execute(renamed).rowcount == 4
        gone = delete(Account.__table__).where(
            Account.id < select(func.max(Order.number)).scalar_subquery()
        )
        assert session.execute(gone).rowcount == 1
        assert set(session.scalars(select(Account.name))) == {"ordered"}


def test_several_from(full: Router) -> None:
    """UPDATE ... FROM and DELETE ... USING, with a condition that leaves the shard."""
    if full.engines["d0"].dialect.name == "sqlite":
        pytest.skip("SQLite has no DELETE ... USING")
    changed = update(Order).where(Order.total == Account.id, Account.name == "a3").values(total=33)
    gone = delete(Order).where(Order.total == Account.id, Account.name == "a2")
    with full.sessionmaker().begin() as session:
        assert session.execute(changed).rowcount == 3
        assert session.execute(gone).rowcount == 3
    assert {row[0]: row[2] for row in orders(full)} == {0: 0, 1: 1, 3: 33, 4: 4, 5: 5}


def test_rows_told_apart_by_their_shard(full: Router) -> None:
    """The same primary key on two shards: only the row that was meant."""
    with full.sessionmaker().begin() as session:
        session.execute(insert(Note).values(id=2, customer_id=3, text="twin"))
        named = select(Account.name).where(Account.id == 2).scalar_subquery()
        changed = update(Note).where(Note.text == func.replace(named, "a", "n")).values(text="x")
        assert session.execute(changed).rowcount == 1
        found = session.execute(select(Note.customer_id, Note.text).where(Note.id == 2)).all()
        assert sorted(map(tuple, found)) == [(2, "x"), (3, "twin")]


def test_returning(full: Router) -> None:
    """What is written is returned, from all shards."""
    if full.engines["d0"].dialect.name == "mysql":
        pytest.skip("MySQL and MariaDB return nothing from an UPDATE")
    changed = update(Order).where(Order.total.in_(select(Account.id))).values(total=50)
    with full.sessionmaker().begin() as session:
        found = session.execute(changed.returning(Order.customer_id, Order.total)).all()
        assert sorted(map(tuple, found)) == [(key, 50) for key in (1, 2, 3, 4) for _ in range(3)]
        none = session.execute(changed.where(Order.total < 0).returning(Order.number))
        assert none.all() == []


def test_nothing_found(full: Router) -> None:
    """No row is written, and none is counted."""
    with full.sessionmaker().begin() as session:
        sent = watch(full)
        gone = delete(Order).where(Order.total.in_(select(Account.id).where(Account.id > 9)))
        assert session.execute(gone).rowcount == 0
    assert len(orders(full)) == 18
    assert sent.count("UPDATE") == {}


def test_uncommitted_rows_are_seen(full: Router) -> None:
    """Flushed before the rows are found."""
    with full.sessionmaker().begin() as session:
        session.add(Account(id=5, name="a5"))
        session.add(Order(customer_id=0, number=9, total=5))
        gone = delete(Order).where(Order.total.in_(select(Account.id).where(Account.id == 5)))
        assert session.execute(gone).rowcount == 4


def test_a_row_that_another_transaction_changes(full: Router) -> None:
    """Between being found and being locked: refused, and done again by `retry`."""
    if full.engines["d0"].dialect.name == "sqlite":
        pytest.skip("SQLite refuses the write by itself")
    gone = delete(Order).where(Order.total.in_(select(Account.id).where(Account.id == 4)))
    turns: list[int] = []

    def work(session: Any) -> int:
        turns.append(len(turns))
        with disturbed(full, once=len(turns) == 1):
            return int(session.execute(gone).rowcount)

    with full.sessionmaker()() as session, disturbed(full, once=True):
        with pytest.raises(CrossShardError, match="R312"):
            session.execute(gone)
        session.rollback()
    with full.sessionmaker().begin() as session:
        session.execute(update(Order).where(Order.customer_id == 4).values(total=4))
    assert retry(full.sessionmaker(), work) == 0
    assert turns == [0, 1]


@contextmanager
def disturbed(router: Router, *, once: bool) -> Iterator[None]:
    """Let another transaction change orders of customer 4 right before they are locked."""
    engine, done = router.engines["d0"], [not once]

    def before(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FOR UPDATE" in statement and not done[0]:
            done[0] = True
            with engine.connect() as other:
                other.execute(text(_CHANGE))
                other.commit()

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)


_CHANGE = "UPDATE orders SET total = number WHERE customer_id = 4 AND total = 4"


def test_refused(full: Router) -> None:
    """Reasons that finding the rows does not remove."""
    elsewhere = Order.total.in_(select(Account.id))
    with full.sessionmaker()() as session:
        unknown = update(Order).where(elsewhere).values(total=func.pg_backend_pid())
        with pytest.raises(RouterError, match=r"R30\d"):
            session.execute(unknown)
        with pytest.raises(RouterError, match=r"R30\d"):
            session.execute(delete(aliased(Order)).where(elsewhere))
        named = update(Order).where(elsewhere, Order.number == bindparam("n")).values(total=1)
        with pytest.raises(RouterError, match=r"R30\d"):
            session.execute(named, {"n": 1})


def test_too_many_rows(lite: Router) -> None:
    """As many as may be gathered, and no more."""
    fill(lite)
    limited = Router.from_dict(
        {**_map_of(lite), "gather": {"max_rows": 7}}, metadata=Order.metadata
    )
    gone = delete(Order).where(Order.total.in_(select(Account.id)))
    refused = pytest.raises(CrossShardError, match="R310")
    with limited, limited.sessionmaker()() as session, refused:
        session.execute(gone)


def _map_of(router: Router) -> dict[str, Any]:
    from tests.session.shop import shard_map

    urls = [engine.url.render_as_string(False) for engine in router.engines.values()]
    return {**shard_map(urls), "transactions": {"two_phase": False}}


# -- a shard key that changes -------------------------------------------------------------------


def test_update_moves_rows(full: Router) -> None:
    """Orders of one customer become those of another, on the other shard."""
    with full.sessionmaker()() as session:
        loaded = session.get_one(Order, (2, 1))
        changed = update(Order).where(Order.customer_id == 2, Order.number > 0)
        result = session.execute(changed.values(customer_id=5, number=Order.number + 10, total=7))
        assert result.rowcount == 2
        assert (loaded.customer_id, loaded.number, loaded.total) == (5, 11, 7)
        session.commit()
    assert [row for row in orders(full) if row[0] in (2, 5)] == [
        (2, 0, 2), (5, 0, 5), (5, 1, 5), (5, 2, 5), (5, 11, 7), (5, 12, 7),
    ]  # fmt: skip


def test_a_new_key_that_is_computed(full: Router) -> None:
    """Each row's own; rolled back, every row is where it was."""
    before = orders(full)
    with full.sessionmaker()() as session:
        changed = update(Order).where(Order.number == 0)
        result = session.execute(changed.values(customer_id=5 - Order.customer_id, number=20))
        assert result.rowcount == 6
        assert {
            row[0] for row in session.execute(select(Order.customer_id).where(Order.number == 20))
        } == set(KEYS)
        session.rollback()
    assert orders(full) == before


def test_the_identity_follows(full: Router) -> None:
    """Of a row that is told apart by its shard."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 2)).one()
        assert session.execute(update(Note).where(Note.id == 2).values(customer_id=3)).rowcount == 1
        assert note.customer_id == 3
        session.commit()
        assert (
            session.scalars(select(Note).where(Note.customer_id == 3, Note.id == 2)).one() is note
        )
        assert session.scalars(select(Note).where(Note.customer_id == 2)).all() == []


def test_rows_of_a_table_without_a_class_do_not_move(full: Router) -> None:
    """The unit of work, which moves rows, knows only those of classes."""
    with full.sessionmaker()() as session, pytest.raises(RoutingError, match="R203"):
        session.execute(update(Line.__table__).values(customer_id=1))


def test_keys_with_a_null() -> None:
    """A NULL is named by IS NULL."""
    from router.session.finding import named_by

    columns = (Note.id, Note.customer_id)
    found = str(
        named_by(columns, [(1, None), (2, 3)]).compile(compile_kwargs={"literal_binds": True})
    )
    assert "(notes.id, notes.customer_id) IN ((2, 3))" in found
    assert "notes.id = 1 AND notes.customer_id IS NULL" in found
    assert str(named_by(columns, [(2, 3)])) == str(tuple_(*columns).in_([(2, 3)]))
