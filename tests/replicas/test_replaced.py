"""Another server answers at a replica's address: restored from a backup, or behind a balancer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from tests.replicas.conftest import OpenWorld
from tests.replicas.world import PRIMARY, World
from tests.session.shop import Account

NAME = select(Account.name)


def rename(world: World, name: str) -> str:
    """Commit a change of the account; return the token."""
    with world.router.sessionmaker()() as session:
        session.execute(update(Account).values(name=name))
        session.commit()
        token = session.token()
    assert token is not None
    return token


@pytest.fixture
def turned(open_world: OpenWorld) -> Iterator[World]:
    """A router whose only replica is current, and a server that is not, behind the same port."""
    world = open_world(max_lag=10, check_every=1, wait=0, weights=(1,))
    servers = world.servers
    yield world
    servers.proxies[0].turn(servers.replicas[0].port)


def turn(world: World) -> None:
    """Let the other server answer, to connections that are opened from now on."""
    world.servers.proxies[0].turn(world.servers.replicas[1].port)
    # As a pool does with connections that are too old, or that it has found dead.
    for engines in world.router.replicas.values():
        engines[0].dispose()


def test_a_position_is_that_of_a_connection(turned: World) -> None:
    """What is known of the server that was there does not let a session read the other one."""
    world = turned
    make = world.router.sessionmaker()
    with make() as session:
        session.scalar(NAME)
    world.servers.pause(1)
    token = rename(world, "new")
    world.servers.catch_up_with(0)
    world.places()
    with make(after=token) as session:
        assert session.scalar(NAME) == "new"
        assert world.numbers() == {0}
    turn(world)
    with make(after=token) as session:
        assert session.scalar(NAME) == "new"
        assert world.numbers() == {PRIMARY}


def test_the_lag_of_a_server_that_went_back(turned: World) -> None:
    """It is not known to be as near as the one that was there."""
    world = turned
    standing = world.standing()
    now = 1000.0
    standing.clock = lambda: now
    make = world.router.sessionmaker()
    world.servers.pause(1)
    for step in range(30):
        # Longer than what the router remembers of its primary.
        now += 1
        rename(world, str(step))
        world.servers.catch_up_with(0)
        world.places()
        with make() as session:
            session.scalar(NAME)
            assert world.numbers() == {0}
    turn(world)
    now += 1
    with make() as session:
        assert session.scalar(NAME) == "29"
        assert world.numbers() == {PRIMARY}
