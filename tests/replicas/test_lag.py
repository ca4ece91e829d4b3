"""Replicas that are too far behind are not read; the lag is exact."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select, update

from router import Router
from router.testing.servers.places import free_port
from tests.replicas.conftest import OpenWorld
from tests.replicas.world import NAMES, PRIMARY, World
from tests.session.shop import Account, Base, shard_map
from tests.support.processes import eventually

NAME = select(Account.name)


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self, world: World) -> None:
        self.now = 1000.0
        for name in NAMES:
            world.standing(name).clock = self

    def __call__(self) -> float:
        return self.now


def numbers(world: World, times: int = 12) -> set[int | None]:
    """Return which servers answer a read, of several transactions."""
    with world.router.sessionmaker()() as session:
        for _ in range(times):
            session.scalar(NAME)
            session.rollback()
    return world.numbers()


def write(world: World, name: str) -> None:
    """Commit something."""
    with world.router.sessionmaker().begin() as session:
        session.execute(update(Account).values(name=name))
    world.places()


@pytest.fixture
def limited(open_world: OpenWorld) -> tuple[World, Clock]:
    """A router that allows a lag of ten seconds, and its time."""
    world = open_world(max_lag=10, check_every=1, wait=0)
    return world, Clock(world)


def test_replicas_of_an_idle_primary_are_not_behind(limited: tuple[World, Clock]) -> None:
    """However long nothing is written."""
    world, clock = limited
    assert numbers(world) == {0, 1}
    clock.now += 3600
    assert numbers(world) == {0, 1}
    standing = world.standing()
    assert [standing.lag(one) for one in standing.members] == [0, 0]


def test_a_replica_that_falls_behind_is_left_out(limited: tuple[World, Clock]) -> None:
    """From the limit on, and until it has caught up."""
    world, clock = limited
    assert numbers(world) == {0, 1}
    world.servers.pause(0)
    write(world, "new")
    assert eventually(lambda: world.has_replayed(1))
    clock.now += 9
    assert numbers(world) == {0, 1}
    clock.now += 1.5
    assert numbers(world) == {1}
    standing = world.standing()
    assert [standing.lag(one) for one in standing.members] == [10.5, 0]
    world.resume()
    clock.now += 1
    assert numbers(world) == {0, 1}


def test_all_replicas_behind(limited: tuple[World, Clock]) -> None:
    """Then the primary answers."""
    world, clock = limited
    assert numbers(world) == {0, 1}
    world.pause()
    write(world, "new")
    clock.now += 11
    assert numbers(world) == {PRIMARY}


def test_a_router_that_knows_nothing_yet(limited: tuple[World, Clock]) -> None:
    """A replica of which it is not known how far it is behind is not read."""
    world, _ = limited
    world.pause()
    write(world, "new")
    assert numbers(world) == {PRIMARY}


def test_servers_are_asked_once_in_a_while(limited: tuple[World, Clock]) -> None:
    """Not by every transaction."""
    world, clock = limited
    asked: list[str] = []

    def note(connection: object, cursor: object, sql: str, *rest: object) -> None:
        asked.append(sql)

    for engine in (world.router.engines["main"], *world.router.replicas["main"]):
        event.listen(engine, "before_cursor_execute", note)
    numbers(world, 10)
    assert sum("lsn" in sql or "gtid" in sql for sql in asked) == 3
    clock.now += 1
    numbers(world, 10)
    assert sum("lsn" in sql or "gtid" in sql for sql in asked) == 6


def test_without_a_limit_nobody_is_asked(world: World) -> None:
    """Any distance will do, whether or not the primary can be reached."""
    world.pause()
    write(world, "new")
    world.standing().look = None
    assert numbers(world) == {0, 1}


def test_a_primary_that_is_down(limited: tuple[World, Clock]) -> None:
    """Its replicas are read while they may still be near enough, and no longer."""
    world, clock = limited
    assert numbers(world) == {0, 1}
    fleet = world.router.wiring.fleet
    assert fleet is not None
    router = unreachable(world)
    with router.sessionmaker()() as session:
        standing = router.wiring.fleet.standings["main"]  # type: ignore[union-attr]
        standing.clock = clock
        member = standing.members[0]
        standing.note(member, fleet.replayed("main", world.standing().members[0]))
        member.current = clock.now
        assert session.scalar(NAME) == "old"
        session.rollback()
        clock.now += 11
        with pytest.raises(Exception, match="R501"):
            session.scalar(NAME)
    router.dispose()


def unreachable(world: World) -> Router:
    """Return a router whose primaries do not answer."""
    servers, names = world.servers, world.names
    url = servers.primary.url(names["main"]).set(port=free_port())
    text = url.render_as_string(hide_password=False)
    data = shard_map([text, *(servers.url(names[name]) for name in NAMES[1:])])
    data["databases"]["main"]["replicas"] = [servers.replica_url(0, names["main"])]
    return Router.from_dict(data, metadata=Base.metadata)
