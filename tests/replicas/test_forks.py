"""Processes that are forked from one that reads replicas."""

from __future__ import annotations

import os
from collections.abc import Callable

from sqlalchemy import func, select, text, update

from tests.replicas.conftest import OpenWorld
from tests.replicas.world import PRIMARY, World
from tests.session.shop import Account, Customer

NAME = select(Account.name)


def in_child(work: Callable[[], bool]) -> int:
    """Return how a child ends that does `work`: 0 if that is true."""
    child = os.fork()
    if child == 0:
        # Nothing of the parent's interpreter may run on after this, whatever happens.
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def backends(world: World) -> set[tuple[int, int]]:
    """Return what serves the pooled connections to the replicas of one database.

    Two servers of MariaDB may give their connections the same numbers.
    """
    own = func.pg_backend_pid() if world.servers.kind == "postgresql" else func.connection_id()
    found = set()
    for number, engine in enumerate(world.router.replicas["main"]):
        with engine.connect() as connection:
            found.add((number, connection.execute(select(own)).scalar_one()))
    return found


def test_a_fork(open_world: OpenWorld) -> None:
    """Both read on, the child on connections of its own, and both see what they have written."""
    world = open_world(max_lag=10, wait=0)
    make = world.router.sessionmaker()
    with make() as session:
        for _ in range(12):
            assert session.scalar(NAME) == "old"
            session.rollback()
        assert world.numbers() == {0, 1}
        session.execute(update(Account).values(name="parent"))
        session.commit()
        token = session.token()
    world.servers.catch_up()
    mine = backends(world)

    def work() -> bool:
        with make(after=token) as session:
            seen = {session.scalar(NAME), *session.scalars(select(Customer.name))}
            session.rollback()
            world.places()
            for _ in range(12):
                session.scalar(NAME)
                session.rollback()
            used = world.numbers()
            session.execute(update(Account).values(name="child"))
            session.commit()
            wrote = session.scalar(NAME)
        away = not mine & backends(world)
        return seen == {"parent", "old"} and used == {0, 1} and wrote == "child" and away

    assert in_child(work) == 0
    assert backends(world) == mine
    world.servers.catch_up()
    world.places()
    with make(after=token) as session:
        assert session.scalar(NAME) == "child"
        assert PRIMARY not in world.numbers()


def test_a_fork_while_another_thread_looks(open_world: OpenWorld) -> None:
    """The child does not wait for a look that only its parent ends."""
    world = open_world(max_lag=10, check_every=0.0001)
    make = world.router.sessionmaker()
    with make() as session:
        session.scalar(NAME)

    def work() -> bool:
        world.places()
        with make() as session:
            session.scalar(NAME)
        standing = world.standing()
        return world.numbers() <= {0, 1} and standing.lag(standing.members[0]) is not None

    looking = world.standing()._looking
    assert looking.acquire(blocking=False)
    try:
        assert in_child(work) == 0
    finally:
        looking.release()


def test_children_choose_for_themselves(world: World) -> None:
    """They do not all ask the same replica because their parent was to ask it next."""
    query = text(world.servers.server_id)

    def places() -> list[object]:
        found = []
        with world.router.sessionmaker()() as session, session.using(role="replica"):
            for _ in range(40):
                found.append(session.scalar(query, bind_arguments={"keyspace": "accounts"}))
                session.rollback()
        return found

    state = world.standing().random.getstate()
    mine = places()
    world.standing().random.setstate(state)
    assert in_child(lambda: places() != mine) == 0
