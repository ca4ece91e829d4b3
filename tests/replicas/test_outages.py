"""Replicas that are gone, and come back."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.exc import DBAPIError

from router import Router
from router.testing.servers import flags
from tests.replicas.conftest import OpenWorld
from tests.replicas.world import PRIMARY, World
from tests.session.shop import Account, Customer

NAME = select(Account.name)


def numbers(router: Router, world: World, times: int = 12) -> set[int | None]:
    """Return which servers answer a read, of several transactions."""
    world.places()
    for _ in range(times):
        with router.sessionmaker()() as session:
            assert session.scalar(NAME) == "old"
    return {number for (name, number), _ in world.asked if name == "main"}


def test_another_replica_answers(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Said once, and without passwords."""
    assert numbers(world.router, world) == {0, 1}
    with caplog.at_level(logging.INFO, "router.replicas"):
        world.cut(0)
        numbers(world.router, world)
        assert numbers(world.router, world) == {1}
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "replica 127.0.0.1:" in caplog.text
    assert flags.password() not in caplog.text.replace("router.replicas", "")


def test_the_primary_answers_when_all_are_gone(world: World) -> None:
    """Also statements over several shards, in new sessions and in those that were open."""
    with world.router.sessionmaker()() as session:
        session.scalar(NAME)
        session.rollback()
        world.cut()
        assert session.scalar(NAME) == "old"
        assert len(session.scalars(select(Customer)).all()) == 2
        world.places()
        session.scalars(select(Customer)).all()
        session.scalar(NAME)
        assert world.numbers() == {PRIMARY}


def test_it_comes_back(open_world: OpenWorld, caplog: pytest.LogCaptureFixture) -> None:
    """After the time that the map says, and not before."""
    world = open_world(max_lag=None, retry_after=30)
    standing = world.standing()
    now = 0.0
    standing.clock = lambda: now
    world.cut()
    numbers(world.router, world)
    assert numbers(world.router, world) == {PRIMARY}
    for proxy in world.servers.proxies:
        proxy.mend()
    now = 29.0
    assert numbers(world.router, world) == {PRIMARY}
    now = 31.0
    caplog.clear()
    with caplog.at_level(logging.INFO, "router.replicas"):
        assert numbers(world.router, world) == {0, 1}
    assert [one.levelname for one in caplog.records] == ["INFO", "INFO"]


def test_a_lagging_limit_and_an_outage(open_world: OpenWorld) -> None:
    """A replica that came back is read once it is known how far it is."""
    world = open_world(max_lag=10, check_every=1, retry_after=5)
    now = 0.0
    world.standing().clock = lambda: now
    assert numbers(world.router, world) == {0, 1}
    world.cut(0)
    numbers(world.router, world)
    world.servers.proxies[0].mend()
    assert numbers(world.router, world) == {1}
    now = 7.0
    assert numbers(world.router, world) == {0, 1}


def test_a_lost_connection_is_not_an_outage(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The first statement of a transaction is made on another connection to the same replica."""
    numbers(world.router, world)
    with caplog.at_level(logging.INFO, "router.replicas"):
        for proxy in world.servers.proxies:
            proxy.drop()
        assert PRIMARY not in numbers(world.router, world)
    assert caplog.records == []


@pytest.mark.parametrize("how", ["handler", "token"])
def test_a_lost_connection_is_noticed_early(
    open_world: OpenWorld, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """By a handler of `after_begin`, or when a replica is asked how far it is: the same."""
    world = open_world(max_lag=None, weights=(1,))
    make = world.router.sessionmaker()
    token = None
    if how == "token":
        with make() as session:
            session.execute(update(Account).values(name="old"))
            session.commit()
            token = session.token()
        world.servers.catch_up()
    else:
        event.listen(make, "after_begin", lambda *given: given[2].exec_driver_sql("SELECT 1"))
    with make() as session, caplog.at_level(logging.INFO, "router.replicas"):
        session.scalar(NAME)
        session.rollback()
        session.after(token)
        world.servers.proxies[0].drop()
        world.places()
        assert session.scalar(NAME) == "old"
        assert world.numbers() == {0}
    assert caplog.records == []


def test_losing_it_after_rows_is_an_error(world: World) -> None:
    """As SQLAlchemy raises it; the next transaction chooses another."""
    with world.router.sessionmaker()() as session:
        session.scalar(NAME)
        world.cut()
        with pytest.raises(DBAPIError) as caught:
            session.scalar(NAME)
        assert caught.value.connection_invalidated
        session.rollback()
        assert session.scalar(NAME) == "old"
        assert world.places()[-1] == ("main", PRIMARY)


def test_a_replica_that_is_lost_does_not_hinder_a_commit(world: World) -> None:
    """Nor a rollback: it takes part in neither."""
    with world.router.sessionmaker()() as session:
        session.scalar(NAME)
        session.scalars(select(Customer)).all()
        world.cut()
        session.commit()
        session.scalar(NAME)
        session.rollback()
    for one in world.servers.proxies:
        one.mend()
    for standing in (world.standing(name) for name in world.names):
        for member in standing.members:
            standing.answered(member)
    with world.router.sessionmaker()() as session:
        session.scalar(NAME)
        world.cut()
        session.execute(update(Account).values(name="new"))
        session.execute(update(Customer).values(name="new"))
        session.commit()
        assert session.scalar(NAME) == "new"
    for engines in world.router.replicas.values():
        assert [engine.pool.checkedout() for engine in engines] == [0, 0]


def test_handlers_of_after_begin_see_the_replica(world: World) -> None:
    """What they set for a transaction, such as a tenant, is set there, too."""
    seen: list[str] = []
    make = world.router.sessionmaker()

    def begun(session: object, transaction: object, connection: object) -> None:
        seen.append(str(connection.engine.url.port))  # type: ignore[attr-defined]

    event.listen(make, "after_begin", begun)
    with make() as session:
        session.scalar(NAME)
        session.scalar(NAME)
        session.execute(update(Account).values(name="new"))
    assert len(seen) == 2
    assert seen[0] in {str(one.port) for one in world.servers.proxies}
    assert seen[1] == str(world.servers.primary.port)
