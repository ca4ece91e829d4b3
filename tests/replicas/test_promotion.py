"""A replica that was promoted is none any more: it takes writes that its primary never had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.pool import NullPool

from router import Router
from tests.replicas.world import NAMES, PRIMARY, World, databases, opened
from tests.session.shop import Account, Base, shard_map
from tests.support.replicated import KINDS, Replicated, replicated

NAME = select(Account.name)


@pytest.fixture(params=list(KINDS))
def servers(request: pytest.FixtureRequest) -> Iterator[Replicated]:
    """Servers of this test's own, since a promotion is for good."""
    with replicated(request.param) as found:
        yield found


@pytest.fixture
def names(servers: Replicated) -> Iterator[dict[str, str]]:
    """The names of the databases on these servers."""
    with databases(servers) as found:
        yield found


def write_there(world: World, number: int) -> None:
    """Let a replica that was promoted have a row that its primary does not have."""
    url = world.servers.replicas[number].url(world.names["main"])
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET name = 'astray'"))


def read(world: World) -> set[int | None]:
    """Read in several transactions of several sessions; return where."""
    world.places()
    for _ in range(12):
        with world.router.sessionmaker()() as session:
            session.scalar(NAME)
    return world.numbers()


def test_a_promoted_replica(servers: Replicated, names: dict[str, str]) -> None:
    """It is read no more, although its connections live and its primary is idle."""
    with opened(servers, names, max_lag=10, check_every=1, wait=0) as world:
        standing = world.standing()
        now = 1000.0
        standing.clock = lambda: now
        assert read(world) == {0, 1}
        servers.promote(0)
        write_there(world, 0)
        now += 1
        assert read(world) == {1}
        with world.router.sessionmaker()() as session:
            session.execute(update(Account).values(name="new"))
            session.commit()
            token = session.token()
        servers.catch_up()
        for _ in range(12):
            with world.router.sessionmaker()(after=token) as session:
                assert session.scalar(NAME) == "new"
        assert 0 not in world.numbers()
        what = {one.what for one in world.router.check() if one.id == "R128"}
        assert any("is no replica" in one for one in what)


def test_a_token_after_a_promotion(servers: Replicated, names: dict[str, str]) -> None:
    """Where no limit of the lag has anybody look, a token still keeps a session off it."""
    with opened(servers, names, max_lag=None, wait=0) as world:
        assert read(world) == {0, 1}
        servers.promote(0)
        write_there(world, 0)
        for step in range(6):
            with world.router.sessionmaker()() as session:
                session.execute(update(Account).values(name=str(step)))
                session.commit()
                servers.catch_up()
                assert session.scalar(NAME) == str(step)


def test_a_failover(servers: Replicated, names: dict[str, str]) -> None:
    """The promoted replica is the primary; the other one, which does not follow it, is late."""
    with opened(servers, names, max_lag=None) as world:
        servers.promote(0)
        data = shard_map([servers.replica_url(0, names[name]) for name in NAMES])
        for name in NAMES:
            data["databases"][name]["replicas"] = [servers.replica_url(1, names[name])]
        data["replication"] = {"max_lag": None, "wait": 0}
        with Router.from_dict(data, metadata=Base.metadata) as router:
            make = router.sessionmaker()
            with make() as session:
                session.execute(update(Account).values(name="new"))
                session.commit()
                assert session.scalar(NAME) == "new"
                token = session.token()
            with make(after=token) as session:
                assert session.scalar(NAME) == "new"
            with make() as session:
                assert session.scalar(NAME) == "old"
        assert PRIMARY not in world.numbers()
