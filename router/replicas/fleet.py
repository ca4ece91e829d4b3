"""The replicas of all databases of a router: opens connections to them, and asks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Self

from sqlalchemy import Engine

from router.engines import Engines
from router.hooks.driver import connect
from router.replicas.asking import position_of_primary, position_of_replica
from router.replicas.positions import Position
from router.replicas.standing import Member, Standing
from router.shardmap.model import ShardMap


class Fleet:
    """Which replicas there are, and what is known of them.

    Parameters
    ----------
    engines:
        Those of the map's databases.
    standings:
        What is known of the replicas of each database that has any.
    """

    def __init__(self, engines: Engines, standings: Mapping[str, Standing]) -> None:
        self._engines = engines
        self.standings = standings

    @classmethod
    def of(cls, shard_map: ShardMap, engines: Engines) -> Self | None:
        """Return the replicas of a map, None if it has none."""
        settings = shard_map.replication
        found = {
            name: Standing(database, settings)
            for name, database in shard_map.databases.items()
            if database.replicas
        }
        for standing in found.values():
            engines.on_fork(standing.after_fork)
        return cls(engines, found) if found else None

    def over(self, engines: Engines) -> Fleet:
        """Return the same replicas over other engines; what is known of them is shared."""
        return Fleet(engines, self.standings)

    def __contains__(self, database: object) -> bool:
        return database in self.standings

    def primary(self, database: str) -> Engine:
        """Return the engine of a database itself."""
        return self._engines[database]

    def engine(self, database: str, member: Member) -> Engine:
        """Return the engine of a replica."""
        return self._engines.replicas_of(database)[member.number]

    def candidates(self, database: str, patience: float | None) -> Iterator[Member]:
        """Yield the replicas that may be read now, the first by weight; look at them if need be."""
        standing = self.standings[database]
        if standing.wants_look:
            replayed = partial(self.replayed, database)
            standing.look(partial(self.position, database), replayed, patience)
        return standing.candidates()

    def position(self, database: str) -> Position | None:
        """Return a position that covers all commits of a database so far; None if it has none."""
        with connect(self._engines[database]) as connection:
            return position_of_primary(connection)

    def replayed(self, database: str, member: Member) -> Position | None:
        """Return what a replica has replayed."""
        with connect(self.engine(database, member)) as connection:
            return position_of_replica(connection)
