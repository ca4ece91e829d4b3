"""A shop over two shards and one more database, each with two replicas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event, inspect

from router import Router
from tests.session.shop import Account, Base, Customer, shard_map
from tests.support.replicated import REPLICAS, Replicated

NAMES = ("main", "d0", "d1")
PRIMARY = None

Place = tuple[str, int | None]
"""A database, and the number of its replica; None for the primary."""


@dataclass
class World:
    """A router, its servers, and which of them was asked for rows."""

    router: Router
    servers: Replicated
    names: dict[str, str]
    asked: list[tuple[Place, str]] = field(default_factory=list)

    def listen(self, engine: Engine, place: Place) -> None:
        """Note the statements of an engine from now on."""

        def note(connection: object, cursor: object, sql: str, *rest: object) -> None:
            if any(f" {table.name}" in sql for table in Base.metadata.tables.values()):
                self.asked.append((place, sql))

        event.listen(engine, "before_cursor_execute", note)

    def places(self) -> list[Place]:
        """Return where rows were asked for since the last call, each place once."""
        found = list(dict.fromkeys(place for place, _ in self.asked))
        self.asked.clear()
        return found

    def numbers(self) -> set[int | None]:
        """Return which servers were asked since the last call, whatever the database."""
        return {number for _, number in self.places()}

    def pause(self) -> None:
        """Let no replica replay anything."""
        for number in range(REPLICAS):
            self.servers.pause(number)

    def resume(self) -> None:
        """Let all replicas replay, and wait until they have everything."""
        for number in range(REPLICAS):
            self.servers.resume(number)
        self.servers.catch_up()

    def has_replayed(self, number: int, name: str = "main") -> bool:
        """Return whether a replica has what the primary has."""
        fleet = self.router.wiring.fleet
        assert fleet is not None
        wanted = fleet.position(name)
        replayed = fleet.replayed(name, self.standing(name).members[number])
        return wanted is not None and replayed is not None and replayed.covers(wanted)

    def cut(self, *numbers: int) -> None:
        """Let replicas answer no more."""
        for number in numbers or range(REPLICAS):
            self.servers.proxies[number].cut()

    def standing(self, name: str = "main") -> Any:
        """Return what the router knows of the replicas of a database."""
        fleet = self.router.wiring.fleet
        assert fleet is not None
        return fleet.standings[name]


@contextmanager
def databases(servers: Replicated) -> Iterator[dict[str, str]]:
    """Yield the names on the servers of databases with all tables."""
    names = {name: servers.database() for name in NAMES}
    try:
        with Router.from_dict(_map(servers, names), metadata=Base.metadata) as router:
            router.create_all()
        yield names
    finally:
        for name in names.values():
            servers.drop(name)


def _map(servers: Replicated, names: dict[str, str], **changes: Any) -> dict[str, Any]:
    return shard_map([servers.url(names[name]) for name in NAMES], **changes)


@contextmanager
def opened(
    servers: Replicated, names: dict[str, str], *, weights: tuple[int, ...] = (1, 1), **kw: Any
) -> Iterator[World]:
    """Yield a world with an account and a customer for each shard, replayed everywhere."""
    data = _map(servers, names, replication=kw)
    for name in NAMES:
        data["databases"][name]["replicas"] = [
            {"url": servers.replica_url(number, names[name]), "weight": weight}
            for number, weight in enumerate(weights)
        ]
    router = Router.from_dict(data, metadata=Base.metadata)
    world = World(router, servers, names)
    try:
        for engine in router.engines.values():
            with engine.begin() as connection:
                for table in reversed(Base.metadata.sorted_tables):
                    if inspect(connection).has_table(table.name):
                        connection.execute(table.delete())
        with router.sessionmaker().begin() as session:
            session.add(Account(id=1, name="old"))
            session.add_all(Customer(id=key, name="old") for key in range(2))
        servers.catch_up()
        listen(world)
        yield world
    finally:
        servers.restore()
        router.dispose()


def listen(world: World) -> None:
    """Note every statement of the router's synchronous sessions."""
    for name in NAMES:
        world.listen(world.router.engines[name], (name, PRIMARY))
        for number, engine in enumerate(world.router.replicas[name]):
            world.listen(engine, (name, number))
