"""Handlers of ``do_orm_execute``: they change statements before they are routed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ORMExecuteState, Session, immediateload, with_loader_criteria

from router import Router, RoutingSession
from tests.session.shop import Customer, Note, Order


@pytest.fixture
def full(lite: Router) -> Router:
    """Six customers with an order each, and two notes."""
    with lite.sessionmaker().begin() as session:
        session.add_all(Customer(id=k, name="c", orders=[Order(number=k)]) for k in range(6))
    with lite.sessionmaker().begin() as session:
        session.add_all([Note(id=1, customer_id=2, text="n"), Note(id=4, customer_id=0, text="n")])
    return lite


def handled(session: RoutingSession, change: Callable[[Any], Any]) -> list[ORMExecuteState]:
    """Let `change` make another statement of each, and return every call."""
    calls: list[ORMExecuteState] = []

    def handler(state: ORMExecuteState) -> None:
        calls.append(state)
        state.statement = change(state.statement)

    event.listen(session, "do_orm_execute", handler)
    return calls


def test_a_limit_counts_for_all_shards(full: Router) -> None:
    """What a handler adds is routed; it is called once."""
    with full.sessionmaker()() as session:
        calls = handled(session, lambda statement: statement.limit(2))
        assert len(session.scalars(select(Customer)).all()) == 2
        assert len(calls) == 1


def test_criteria_see_all_shards(full: Router) -> None:
    """The usual way of soft deletes and tenants, with a subquery over other shards."""
    notes = Order.number.in_(select(Note.id))
    with full.sessionmaker()() as session:
        handled(session, lambda one: one.options(with_loader_criteria(Order, notes)))
        assert sorted(session.scalars(select(Order.number))) == [1, 4]


def test_a_handler_names_the_key(full: Router) -> None:
    """A statement over all shards becomes one for a single shard."""
    with full.sessionmaker()() as session:
        handled(session, lambda statement: statement.where(Customer.id == 3))
        assert session.scalars(select(Customer)).one().id == 3


def test_a_handler_answers_itself(full: Router) -> None:
    """Nothing is sent then."""
    with full.sessionmaker()() as session:
        answer = session.execute(select(Customer.id).where(Customer.id == 1)).freeze()
        event.listen(session, "do_orm_execute", lambda state: answer())
        assert session.scalars(select(Customer.id)).all() == [1]


def test_text_beside_handlers(full: Router) -> None:
    """Bind arguments say where text goes, as without handlers."""
    with full.sessionmaker()() as session:
        calls = handled(session, lambda statement: statement)
        count = text("SELECT count(*) FROM customers")
        found = [
            session.scalar(count, bind_arguments={"shard": f"shop/s{n}"})
            for n in range(len(full.shard_map.keyspaces["shop"].shards))  # type: ignore[union-attr]
        ]
        assert sum(found) == 6
        assert len(calls) == len(found)


def test_a_handler_changes_an_option_that_was_given(full: Router) -> None:
    """What a handler sets goes before what the call was given, as without routing."""
    found: list[Any] = []

    def sent(*args: Any) -> None:
        found.append(args[4].execution_options.get("mark"))

    event.listen(full.engine_for("shop", 1), "before_cursor_execute", sent)
    with full.sessionmaker()() as session:
        event.listen(
            session, "do_orm_execute", lambda state: state.update_execution_options(mark="handler")
        )
        one = select(Customer).where(Customer.id == 1)
        session.execute(one, execution_options={"mark": "call"}).all()
    event.remove(full.engine_for("shop", 1), "before_cursor_execute", sent)
    assert found == ["handler"]


def test_a_handler_turns_autoflush_off(full: Router) -> None:
    """A pending object stays pending, also for a statement with many rows."""
    with full.sessionmaker()() as session:
        session.add(Customer(id=9, name="pending"))
        event.listen(
            session, "do_orm_execute", lambda state: state.update_execution_options(autoflush=False)
        )
        session.execute(insert(Customer), [{"id": 7, "name": "c"}, {"id": 8, "name": "c"}])
        assert session.scalars(select(Customer.id).where(Customer.id == 9)).all() == []
        assert session.new


def test_a_handler_leaves_relationship_loads_their_options(full: Router) -> None:
    """Beside a handler, `yield_per` of a query means for its loads what it does in a `Session`."""
    query = select(Customer).options(immediateload(Customer.orders)).where(Customer.id == 2)

    def loaded(session: Session) -> list[int] | str:
        event.listen(session, "do_orm_execute", lambda state: None)
        try:
            found = session.scalars(query, execution_options={"yield_per": 1}).all()
            return [order.number for one in found for order in one.orders]
        except InvalidRequestError as error:
            # Older versions of SQLAlchemy pass it on.
            return str(error)

    with Session(full.engine_for("shop", 2)) as plain, full.sessionmaker()() as routed:
        assert loaded(routed) == loaded(plain)
