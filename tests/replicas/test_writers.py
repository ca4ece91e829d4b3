"""What is read in order to be written is read where it is written."""

from __future__ import annotations

import pytest
from sqlalchemy import event, insert, select, update

from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act, Deed
from tests.replicas.world import PRIMARY, World
from tests.session.shop import Account, Customer, Note, Order

MAIN = {"keyspace": "accounts"}
ADDED = insert(Account).values(id=5, name="x").returning(Account.id).cte("added")


@pytest.fixture(autouse=True)
def _paused(world: World) -> None:
    """Replicas have what is old only; the primaries have more."""
    world.pause()
    with world.router.sessionmaker().begin() as session:
        session.execute(update(Account).values(name="new"))
        session.execute(update(Customer).values(name="new"))
        session.add(Order(customer_id=1, number=1))
        session.add(Note(id=1, customer_id=0, text="new"))
    world.places()


def test_merge(world: World) -> None:
    """A value that only a replica still has is written, and not taken to be there."""
    with world.router.sessionmaker().begin() as session:
        session.merge(Account(id=1, name="old"))
    with world.router.sessionmaker()() as session, session.using("primary"):
        assert session.get_one(Account, 1).name == "old"


def test_delete(world: World) -> None:
    """What a deleted object takes with it is what is there."""
    with world.router.sessionmaker().begin() as session:
        customer = session.get_one(Customer, 1)
        assert PRIMARY not in world.numbers()
        session.delete(customer)
    with world.router.sessionmaker()() as session, session.using("primary"):
        assert session.scalars(select(Order)).all() == []
        assert session.get(Customer, 1) is None


def test_rows_that_are_found_first(world: World) -> None:
    """An UPDATE whose criteria see other shards finds what is there."""
    wanted = select(Note.text)
    with world.router.sessionmaker().begin() as session:
        change = update(Customer).where(Customer.name.in_(wanted)).values(name="found")
        session.execute(change.execution_options(synchronize_session=False))
        assert world.numbers() == {PRIMARY}
    with world.router.sessionmaker()() as session, session.using("primary"):
        assert session.scalars(select(Customer.name)).all() == ["found", "found"]


def test_rows_that_are_inserted_from_others(world: World) -> None:
    """INSERT ... SELECT from other databases copies what is there."""
    rows = select(Customer.id + 10, Customer.name)
    with world.router.sessionmaker().begin() as session:
        session.execute(insert(Account).from_select(["id", "name"], rows))
        assert world.numbers() == {PRIMARY}
    with world.router.sessionmaker()() as session, session.using("primary"):
        names = select(Account.name).where(Account.id >= 10)
        assert session.scalars(names).all() == ["new", "new"]


def test_loads_of_a_flush(world: World) -> None:
    """What a flush has to load first, it loads from the primary."""
    with world.router.sessionmaker().begin() as session:
        customer = session.get_one(Customer, 1)
        world.places()
        with session.no_autoflush:
            session.add(Account(id=5, name="x"))
            customer.orders = []
        session.flush()
        assert world.places()[-1][1] is PRIMARY


def test_handlers_of_a_flush(world: World) -> None:
    """A handler that reads in a flush reads what is there."""
    seen: list[str | None] = []
    with world.router.sessionmaker()() as session:

        def handler(flushing: object, context: object, instances: object) -> None:
            seen.append(session.scalar(select(Account.name).where(Account.id == 1)))

        event.listen(session, "before_flush", handler)
        session.add(Account(id=5, name="x"))
        session.flush()
        assert seen == ["new"]
        assert world.numbers() == {PRIMARY}


def test_a_select_that_writes(world: World) -> None:
    """With a CTE that is seen to write it is a write, also where it is declared to be a read."""
    if world.servers.kind != "postgresql":
        pytest.skip("writes in a CTE are PostgreSQL's")
    with world.router.sessionmaker()() as session, session.using(role="replica"):
        assert session.scalar(select(ADDED.c.id), bind_arguments=MAIN) == 5
        assert session.get_one(Customer, 1).name == "new"
        assert world.numbers() == {PRIMARY}


def test_what_a_select_writes_is_committed_with_the_rest(world: World) -> None:
    """Or with nothing: its database takes part in the commit."""
    if world.servers.kind != "postgresql":
        pytest.skip("writes in a CTE are PostgreSQL's")

    def fail(moment: Moment, act: Act) -> None:
        if (moment, act.deed) == (Moment.BEFORE, Deed.DECIDE):
            raise LookupError

    with world.router.sessionmaker()() as session:
        session.execute(select(ADDED.c.id), bind_arguments=MAIN)
        session.get_one(Customer, 1).name = "changed"
        with probing(fail), pytest.raises(LookupError):
            session.commit()
    with world.router.sessionmaker()() as session, session.using("primary"):
        assert session.get(Account, 5) is None
        assert session.get_one(Customer, 1).name == "new"
