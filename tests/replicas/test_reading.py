"""What is read from replicas, and what from primaries."""

from __future__ import annotations

from collections import Counter
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, literal_column, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import selectinload

from router import Router, RoutingError
from tests.replicas.conftest import OpenWorld
from tests.replicas.world import NAMES, PRIMARY, World
from tests.session.shop import Account, Base, Customer, Note, Order, shard_map

NAME = select(Account.name)
MAIN = {"keyspace": "accounts"}


def test_reads_go_to_a_replica(world: World) -> None:
    """A transaction that has not written reads what the replica has, not the primary."""
    world.pause()
    with world.router.sessionmaker().begin() as session:
        session.add(Account(id=2, name="new"))
    world.places()
    with world.router.sessionmaker()() as session:
        assert session.scalars(NAME).all() == ["old"]
        assert PRIMARY not in world.numbers()


def test_the_servers_say_so_themselves(world: World) -> None:
    """The statement runs on another server, whose connection is read only."""
    query = text(world.servers.server_id)
    with world.router.sessionmaker()() as session:
        found = session.scalar(query, execution_options={"role": "replica"}, bind_arguments=MAIN)
    assert found in {world.servers.identity(0), world.servers.identity(1)}
    with world.router.sessionmaker()() as session:
        found = session.scalar(query, bind_arguments=MAIN)
        assert found == world.servers.identity()


def test_one_replica_for_a_whole_transaction(world: World) -> None:
    """Reads never alternate; the next transaction chooses anew."""
    seen: Counter[int | None] = Counter()
    with world.router.sessionmaker()() as session:
        for _ in range(30):
            for _ in range(4):
                session.scalars(NAME).all()
                session.get(Account, 1, populate_existing=True)
            numbers = world.numbers()
            assert len(numbers) == 1
            seen.update(numbers)
            session.rollback()
    assert seen.keys() == {0, 1}


def test_weights_are_honoured(open_world: OpenWorld) -> None:
    """A replica of three times the weight gets about three times the transactions."""
    world = open_world(max_lag=None, weights=(3, 1))
    world.standing().random.seed(1)
    seen: Counter[int | None] = Counter()
    with world.router.sessionmaker()() as session:
        for _ in range(400):
            session.scalar(NAME)
            seen.update(world.numbers())
            session.rollback()
    assert 270 <= seen[0] <= 330
    assert seen.total() == 400


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.execute(insert(Account).values(id=9, name="x")),
        lambda s: s.execute(update(Account).values(name="x")),
        lambda s: s.execute(delete(Account)),
        lambda s: s.execute(text("UPDATE accounts SET name = 'x'"), bind_arguments=MAIN),
        lambda s: s.add(Account(id=9, name="x")),
        lambda s: setattr(s.get(Account, 1), "name", "x"),
        lambda s: s.connection(bind_arguments=MAIN),
        lambda s: s.bulk_insert_mappings(Account, [{"id": 9, "name": "x"}]),
        lambda s: s.merge(Account(id=1, name="x")),
        lambda s: s.delete(s.get(Account, 1)),
        lambda s: s.execute(update(Customer).values(name=Customer.name + "x")),
    ],
    ids=range(11),
)
def test_after_a_write_all_reads_go_to_primaries(world: World, write: Any) -> None:
    """Those of every database, until the transaction ends, and in no other transaction."""
    with world.router.sessionmaker()() as session:
        session.scalar(select(Customer.name).where(Customer.id == 1))
        assert PRIMARY not in world.numbers()
        write(session)
        session.flush()
        world.places()
        for _ in range(3):
            session.execute(NAME)
            session.scalars(select(Customer)).all()
            session.scalar(select(Customer.name).where(Customer.id == 1))
        assert set(world.places()) == {("main", None), ("d0", None), ("d1", None)}
        session.rollback()
    with world.router.sessionmaker()() as session:
        session.execute(NAME)
        assert PRIMARY not in world.numbers()


def test_a_pending_object_is_seen(world: World) -> None:
    """What a read flushes first, it sees: it is decided where it goes after the flush."""
    with world.router.sessionmaker()() as session:
        session.add(Account(id=2, name="new"))
        assert sorted(session.scalars(NAME)) == ["new", "old"]


@pytest.mark.parametrize(
    "query",
    [
        select(Account).with_for_update(),
        select(func.pg_advisory_lock(1), Account.id),
        select(func.my_function(Account.id)),
        select(literal_column("name || 'x'")).select_from(Account),
        select(Account).where(text("name = 'old'")),
        select(Account.id).prefix_with("ALL"),
        select(Account.id.op("@@@")(1)),
    ],
    ids=range(7),
)
def test_what_is_not_proven_to_be_a_read_goes_to_the_primary(world: World, query: Any) -> None:
    """Locks, functions that are not known, and text; some of it fails there, which is right."""
    with world.router.sessionmaker()() as session:
        try:
            session.execute(query).all()
        except DBAPIError:
            session.rollback()
        assert world.numbers() == {PRIMARY}


def test_a_transaction_does_not_go_back_in_time(world: World) -> None:
    """Once a database was read from its primary, the transaction reads it there."""
    world.pause()
    with world.router.sessionmaker().begin() as session:
        session.add(Account(id=2, name="new"))
    with world.router.sessionmaker()() as session:
        assert session.scalar(select(func.count()).select_from(Account)) == 1
        lock = select(Account.id).with_for_update()
        assert len(session.execute(lock).all()) == 2
        assert session.scalar(select(func.count()).select_from(Account)) == 2
        world.places()
        session.scalar(select(Customer.name).where(Customer.id == 1))
        assert PRIMARY not in world.numbers()


def test_text_is_for_the_primary_unless_declared(world: World) -> None:
    """A declared UPDATE fails on the replica rather than being made there or anywhere."""
    change = text("UPDATE accounts SET name = 'x'")
    with world.router.sessionmaker()() as session:
        with session.using(role="replica"), pytest.raises(DBAPIError):
            session.execute(change, bind_arguments=MAIN)
        assert PRIMARY not in world.numbers()
        session.rollback()
        session.execute(change, bind_arguments=MAIN)
        assert world.numbers() == {PRIMARY}
        session.rollback()
        with session.using("replica"):
            query = text("SELECT name FROM accounts")
            assert session.scalars(query, bind_arguments=MAIN).all() == ["old"]
            with pytest.raises(DBAPIError):
                session.scalar(select(func.no_such_function(Account.id)))
    assert PRIMARY not in world.numbers()


@pytest.mark.parametrize(
    "write",
    ["DELETE FROM accounts", "CREATE TABLE accounts_2 (a INT)", "TRUNCATE TABLE accounts"],
)
def test_a_replica_refuses_every_write(world: World, write: str) -> None:
    """Whatever is declared to be a read, and on connections of one's own."""
    declared = {"role": "replica"}
    with world.router.sessionmaker()() as session, pytest.raises(DBAPIError):
        session.execute(text(write), bind_arguments=MAIN, execution_options=declared)
    with world.router.replicas["main"][0].connect() as connection, pytest.raises(DBAPIError):
        connection.execute(text(write))


def test_connections_to_replicas_are_read_only(world: World) -> None:
    """Also where the server would let them write: here it is the primary under another name."""
    data = shard_map([world.servers.url(world.names[name]) for name in NAMES])
    url = world.servers.primary.url(world.names["main"]).set(host="localhost")
    data["databases"]["main"]["replicas"] = [url.render_as_string(hide_password=False)]
    data["replication"] = {"max_lag": None}
    declared = {"role": "replica"}
    with Router.from_dict(data, metadata=Base.metadata) as router:
        for write in ("DELETE FROM accounts", "TRUNCATE TABLE accounts"):
            with (
                router.sessionmaker()() as session,
                pytest.raises(DBAPIError, match=r"(?i)read.only"),
            ):
                session.execute(text(write), bind_arguments=MAIN, execution_options=declared)
        with router.replicas["main"][0].begin() as connection, pytest.raises(DBAPIError):
            connection.execute(text("INSERT INTO accounts (id, name) VALUES (7, 'x')"))


def test_a_declared_read_on_the_primary_counts_as_a_write(world: World) -> None:
    """Where no replica answers, it is seen as all text is: it commits with the others."""
    world.cut()
    with world.router.sessionmaker()() as session, session.using(role="replica"):
        session.execute(text("UPDATE accounts SET name = 'new'"), bind_arguments=MAIN)
        session.execute(update(Customer).where(Customer.id == 0).values(name="new"))
        session.commit()
        assert str(session.token()).split("~")[1::2] == ["d0", "main"]
    with world.router.sessionmaker()() as session, session.using(role="primary"):
        assert session.scalar(NAME) == "new"
        assert session.get_one(Customer, 0).name == "new"


def test_roles_of_a_block_and_of_a_statement(world: World) -> None:
    """The statement's own goes before that of the innermost block, which ends with it."""
    with world.router.sessionmaker()() as session:
        with session.using(role="primary"):
            session.scalar(NAME)
            assert world.numbers() == {PRIMARY}
        session.rollback()
        session.scalar(NAME)
        assert PRIMARY not in world.numbers()
        session.rollback()
        session.scalar(NAME, execution_options={"role": "primary"})
        session.scalar(NAME.execution_options(role="replica"))
        assert world.numbers() == {PRIMARY}
        session.rollback()
        with session.using(role="primary"), session.using(role="replica"):
            session.scalar(text("SELECT name FROM accounts"), bind_arguments=MAIN)
        assert PRIMARY not in world.numbers()


def test_an_unknown_role_is_refused(world: World) -> None:
    """By a block, by a statement, by a call."""
    with world.router.sessionmaker()() as session:
        with pytest.raises(RoutingError, match="R216"):
            session.using(role="leader")
        with pytest.raises(RoutingError, match="R216"):
            session.execute(NAME, execution_options={"role": "leader"})
        with pytest.raises(RoutingError, match="R216"):
            session.execute(NAME.execution_options(role="leader"))


def test_a_role_lasts_for_the_scope(world: World) -> None:
    """Also for a session made after `remove()` within the block, and no longer."""
    scoped = world.router.scoped_session()
    with scoped.using(role="primary"):
        scoped.scalar(NAME)
        scoped.remove()
        scoped.scalar(NAME)
        assert world.numbers() == {PRIMARY}
        scoped.remove()
    scoped.scalar(NAME)
    assert PRIMARY not in world.numbers()
    scoped.remove()


def test_shards_are_read_from_their_replicas(world: World) -> None:
    """Fan-outs, merges and relationship loads; each database from one replica."""
    with world.router.sessionmaker().begin() as session:
        session.add_all([Order(customer_id=key, number=1) for key in range(2)])
    world.servers.catch_up()
    world.places()
    with world.router.sessionmaker()() as session:
        assert len(session.scalars(select(Customer)).all()) == 2
        assert session.scalar(select(func.count()).select_from(Customer)) == 2
        query = select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id)
        assert [len(one.orders) for one in session.scalars(query)] == [1, 1]
        assert [one.notes for one in session.scalars(query)] == [[], []]
        places = world.places()
        assert sorted(name for name, _ in places) == ["d0", "d1"]
        assert PRIMARY not in {number for _, number in places}


def test_a_gathered_read_is_answered_by_primaries(world: World) -> None:
    """And so are the reads of its databases that follow in its transaction."""
    with world.router.sessionmaker()() as session:
        query = select(Customer.id).where(Customer.name.in_(select(Note.text)))
        assert session.scalars(query).all() == []
        session.scalars(select(Customer)).all()
        assert world.numbers() == {PRIMARY}


def test_savepoints(world: World) -> None:
    """Reads in one go to the replica; after a write in one, though undone, to the primary."""
    with world.router.sessionmaker()() as session:
        with session.begin_nested():
            session.scalar(NAME)
        assert PRIMARY not in world.numbers()
        with session.begin_nested() as savepoint:
            session.execute(update(Account).values(name="x"))
            savepoint.rollback()
        world.places()
        assert session.scalar(NAME) == "old"
        assert world.numbers() == {PRIMARY}
        session.commit()


@pytest.mark.parametrize("end", ["commit", "rollback", "close", "reset", "invalidate"])
def test_connections_are_given_back(world: World, end: str) -> None:
    """Whatever the end of the transaction; and a replica takes part in no commit."""
    with world.router.sessionmaker()() as session:
        session.scalars(select(Customer)).all()
        session.scalar(NAME)
        session.execute(update(Customer).where(Customer.id == 1).values(name="x"))
        getattr(session, end)()
        for engines in world.router.replicas.values():
            assert [engine.pool.checkedout() for engine in engines] == [0, 0]
        assert all(one.pool.checkedout() == 0 for one in world.router.engines.values())


def test_a_failed_transaction_reads_nowhere(world: World) -> None:
    """After an error in a flush the session wants its rollback, replicas or not."""
    with world.router.sessionmaker()() as session:
        session.scalar(NAME)
        session.add(Account(id=1, name="again"))
        with pytest.raises(DBAPIError):
            session.flush()
        with pytest.raises(Exception, match="rolled back due to a previous exception"):
            session.scalar(NAME)
        session.rollback()
        assert session.scalar(NAME) == "old"


def test_threads(world: World) -> None:
    """Each transaction of each thread has one replica, and all are used."""
    found: list[set[Any]] = []

    def work() -> None:
        for _ in range(20):
            with world.router.sessionmaker()() as session:
                query = text(world.servers.server_id)
                options = {"execution_options": {"role": "replica"}}
                place = {"bind_arguments": MAIN}
                found.append({session.scalar(query, **options, **place) for _ in range(3)})

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(len(one) == 1 for one in found)
    assert set.union(*found) == {world.servers.identity(0), world.servers.identity(1)}
