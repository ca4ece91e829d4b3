"""A session sees its own commits, and those that a token tells it of."""

from __future__ import annotations

from threading import Timer

import pytest
from sqlalchemy import event, func, insert, select, text, update
from sqlalchemy import exc as sa_exc
from sqlalchemy.exc import DBAPIError, IntegrityError

from router import RoutingError
from tests.replicas.conftest import OpenWorld
from tests.replicas.world import PRIMARY, World
from tests.session.shop import Account, Customer
from tests.support.processes import eventually

NAME = select(Account.name)
MAIN = {"keyspace": "accounts"}


def rename(world: World, name: str = "new") -> str:
    """Commit a change of the account in a session of its own; return the token."""
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name=name))
        session.commit()
        token = session.token()
    assert token is not None
    world.places()
    return token


def test_a_session_sees_its_own_commit(world: World) -> None:
    """In its next transaction, from the primary as long as no replica has it."""
    world.pause()
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name="new"))
        session.commit()
        world.places()
        assert session.scalar(NAME) == "new"
        assert world.numbers() == {PRIMARY}
        # What it has not written is still read from replicas.
        session.scalars(select(Customer)).all()
        assert PRIMARY not in world.numbers()
        session.rollback()
        world.resume()
        assert session.scalar(NAME) == "new"
        assert PRIMARY not in world.numbers()


@pytest.mark.parametrize("how", ["object", "text", "connection", "bulk", "savepoint"])
def test_every_kind_of_write_is_seen(world: World, how: str) -> None:
    """However it was made."""
    world.pause()
    change = text("UPDATE accounts SET name = 'new'")
    with world.router.sessionmaker()() as session:
        if how == "object":
            session.get_one(Account, 1).name = "new"
        elif how == "text":
            session.execute(change, bind_arguments=MAIN)
        elif how == "connection":
            session.connection(bind_arguments=MAIN).execute(change)
        elif how == "bulk":
            session.bulk_update_mappings(Account, [{"id": 1, "name": "new"}])
        else:
            with session.begin_nested():
                session.execute(update(Account).values(name="new"))
        session.commit()
        assert session.scalar(NAME) == "new"
        assert session.get_one(Account, 1).name == "new"


def test_what_a_function_writes_is_seen(world: World) -> None:
    """A SELECT with a function that is not known may write, and its session sees it."""
    if world.servers.kind != "postgresql":
        body = "BEGIN UPDATE accounts SET name = 'new'; RETURN 1; END"
        create = f"CREATE FUNCTION rename_all() RETURNS INT MODIFIES SQL DATA {body}"
    else:
        body = "UPDATE accounts SET name = 'new'; SELECT 1"
        create = f"CREATE FUNCTION rename_all() RETURNS INT LANGUAGE sql AS $$ {body} $$"
    with world.router.engines["main"].begin() as connection:
        connection.execute(text("DROP FUNCTION IF EXISTS rename_all"))
        connection.execute(text(create))
    world.servers.catch_up()
    world.pause()
    with world.router.sessionmaker()() as session:
        query = select(func.rename_all())
        declared = {"role": "replica"}
        with pytest.raises(DBAPIError):
            session.scalar(query, execution_options=declared)
        session.rollback()
        assert session.scalar(NAME) == "old"
        session.rollback()
        assert session.scalar(query) == 1
        session.commit()
        assert session.scalar(NAME) == "new"
        assert str(session.token()).startswith("1~main~")


def test_a_token_without_the_primary(world: World) -> None:
    """It says that only the primary will do, rather than fail after a commit."""
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name="new"))
        session.commit()
        engine = world.router.engines["main"]
        engine.dispose()
        event.listen(engine, "do_connect", refuse)
        assert session.token() == "1~main~x"
        event.remove(engine, "do_connect", refuse)
        assert session.token() not in (None, "1~main~x")


def refuse(*_: object) -> None:
    """Stand for a server that does not answer."""
    raise sa_exc.OperationalError("connect", {}, ConnectionError())


def test_two_databases(world: World) -> None:
    """A commit of several databases is seen on each, and stands in the token."""
    world.pause()
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name="new"))
        session.execute(update(Customer).values(name="new"))
        session.commit()
        token = session.token()
    assert token is not None
    assert token.split("~")[1::2] == ["d0", "d1", "main"]
    with world.router.sessionmaker()(after=token) as session:
        assert session.scalar(NAME) == "new"
        assert session.scalars(select(Customer.name)).all() == ["new", "new"]


def test_a_token_lets_another_session_see(world: World) -> None:
    """By the argument, or by `after`; without it, the replica's old row is read."""
    world.pause()
    token = rename(world)
    with world.router.sessionmaker()() as session:
        assert session.scalar(NAME) == "old"
    with world.router.sessionmaker()(after=token) as session:
        assert session.scalar(NAME) == "new"
        assert session.token() == token
    with world.router.sessionmaker()() as session:
        session.after(token)
        assert session.scalar(NAME) == "new"
    scoped = world.router.scoped_session()
    scoped.after(token)
    assert scoped.scalar(NAME) == "new"
    assert scoped.token() == token
    scoped.remove()
    assert scoped.scalar(NAME) == "old"
    scoped.remove()
    world.resume()
    world.places()
    with world.router.sessionmaker()(after=token) as session:
        assert session.scalar(NAME) == "new"
        assert PRIMARY not in world.numbers()


def test_a_token_within_a_transaction(world: World) -> None:
    """What follows is read from primaries: the replica chosen may be too old."""
    world.pause()
    token = rename(world)
    with world.router.sessionmaker()() as session:
        assert session.scalar(NAME) == "old"
        session.after(token)
        assert session.scalar(NAME) == "new"


def test_a_token_carries_what_its_session_was_given(world: World) -> None:
    """Along a chain of requests, of which each wrote elsewhere."""
    world.pause()
    token = rename(world)
    with world.router.sessionmaker()(after=token) as session:
        session.execute(update(Customer).where(Customer.id == 1).values(name="new"))
        session.commit()
        second = session.token()
    with world.router.sessionmaker()(after=second) as session:
        assert session.scalar(NAME) == "new"
        assert session.get_one(Customer, 1).name == "new"
        assert session.get_one(Customer, 0).name == "old"


def test_a_replica_that_is_there_is_preferred(world: World) -> None:
    """Of two replicas, the one that has replayed it answers; the primary does not."""
    world.servers.pause(0)
    token = rename(world)
    assert eventually(lambda: world.has_replayed(1))
    for _ in range(20):
        with world.router.sessionmaker()(after=token) as session:
            assert session.scalar(NAME) == "new"
            assert world.numbers() == {1}


def test_a_read_waits_for_a_replica(open_world: OpenWorld) -> None:
    """For as long as the map says; the primary is not asked if the replica gets there."""
    world = open_world(max_lag=None, wait=60)
    world.pause()
    token = rename(world)
    timer = Timer(0.3, world.resume)
    timer.start()
    with world.router.sessionmaker()(after=token) as session:
        assert session.scalar(NAME) == "new"
        assert PRIMARY not in world.numbers()
    timer.join()


def test_nothing_to_see(world: World) -> None:
    """Reads, rollbacks, and no writes at all give no token."""
    with world.router.sessionmaker()() as session:
        assert session.token() is None
        session.scalar(NAME)
        session.commit()
        assert session.token() is None
        session.after(None)
        session.after("")
    with world.router.sessionmaker()(after=None) as session:
        assert session.token() is None


def test_a_commit_costs_no_further_round_trip(world: World) -> None:
    """Positions are asked for when somebody needs them, and once."""
    asked: list[str] = []

    def note(connection: object, cursor: object, sql: str, *rest: object) -> None:
        if "lsn" in sql or "gtid" in sql:
            asked.append(sql)

    event.listen(world.router.engines["main"], "before_cursor_execute", note)
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name="new"))
        session.commit()
        assert asked == []
        assert session.token() == session.token()
        assert len(asked) == 1


def test_an_unknown_outcome_keeps_the_session_on_the_primary(world: World) -> None:
    """A commit that failed may yet be made: no position says when."""
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name="new"))
        raw = session.connection(bind_arguments=MAIN)
        raw.invalidate()
        with pytest.raises(Exception, match=r"(?i)invalid"):
            session.commit()
        session.rollback()
        world.places()
        session.scalar(NAME)
        assert world.numbers() == {PRIMARY}
        token = session.token()
        assert token == "1~main~x"
    with world.router.sessionmaker()(after=token) as session:
        session.scalar(NAME)
        assert world.numbers() == {PRIMARY}


def test_a_failed_write_leaves_the_session_as_it_was(world: World) -> None:
    """After the rollback, reads go to replicas again."""
    with world.router.sessionmaker()() as session:
        with pytest.raises(IntegrityError):
            session.execute(insert(Account).values(id=1, name="again"))
        session.rollback()
        world.servers.catch_up()
        world.places()
        assert session.scalar(NAME) == "old"
        assert PRIMARY not in world.numbers()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "1",
        "1~main",
        "2~main~w1",
        "1~main~w1~main~w2",
        "1~main~w1~",
        "1~main~wxyz",
        "1~main~w11111111111111111",
        "1~main~m1-2",
        "1~main~g1",
        "1~main~",
        "1~m ain~w1",
        "1~main~w1\n",
        "1~" + "~".join(f"n{at}~w1" for at in range(2000)),
        b"1~main~w1",
        5,
        "1~d0~w1'; DROP TABLE accounts",
        "1~größe~w1",
        "1~main~g3e11fa4771ca11e19e33c80aa9429562.1-5",
    ],
    ids=range(19),
)
def test_what_is_no_token_is_refused(world: World, token: object) -> None:
    """Cleanly, and without repeating it; the session can be used on."""
    if world.servers.kind == "mariadb" and str(token).startswith("1~main~g3"):
        token = "1~main~w1"
    with world.router.sessionmaker()() as session:
        with pytest.raises(RoutingError, match="R217") as caught:
            session.after(token)  # type: ignore[arg-type]
        assert "DROP" not in str(caught.value)
        assert session.token() is None
        assert session.scalar(NAME) == "old"


def test_databases_that_the_map_does_not_have_are_left_out(world: World) -> None:
    """As after a database was taken out of the map, while cookies still name it."""
    with world.router.sessionmaker()(after="1~gone~w1") as session:
        assert session.scalar(NAME) == "old"
        assert PRIMARY not in world.numbers()
        assert session.token() is None
