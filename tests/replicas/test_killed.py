"""A replica whose process is killed while sessions read from it."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from tests.replicas.world import PRIMARY, World, databases, opened
from tests.session.shop import Account
from tests.support.replicated import KINDS, REPLICAS, replicated

NAME = select(Account.name)


@pytest.mark.parametrize("kind", list(KINDS))
def test_killed_replicas(kind: str) -> None:
    """The other one answers, then the primary; nothing that was committed is missed."""
    with (
        replicated(kind) as servers,
        databases(servers) as names,
        opened(servers, names, max_lag=None, retry_after=600) as world,
    ):
        name = "old"
        for killed, left in enumerate([{0, 1}, {1}, {PRIMARY}]):
            with world.router.sessionmaker()() as session:
                for _ in range(10):
                    # A connection that is in the pool may be tried before it is found dead.
                    assert session.scalar(NAME) == name
                    session.rollback()
            places: set[int | None] = set()
            for step in range(10):
                places |= changed(world, name, f"{killed}.{step}")
                name = f"{killed}.{step}"
                servers.catch_up()
            assert places == left
            if killed < REPLICAS:
                servers.kill(killed)


def changed(world: World, old: str, new: str) -> set[int | None]:
    """Read `old`, write `new`, and read it; return where `old` was read."""
    world.places()
    with world.router.sessionmaker()() as session:
        assert session.scalar(NAME) == old
        places = world.numbers()
        session.rollback()
        session.execute(update(Account).values(name=new))
        session.commit()
        assert session.scalar(NAME) == new
    return places
