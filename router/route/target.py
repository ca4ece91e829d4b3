"""Where a statement goes, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from router.errors import CrossShardError, RouterError


class Reach(Enum):
    """How far a statement reaches."""

    ONE = "one"
    SOME = "some"
    ALL = "all"
    COPIES = "copies"
    REFUSED = "refused"


class Tier(Enum):
    """How the rows of several places become one answer."""

    ONE = "one database"
    CONCATENATED = "rows of several shards, one after another"
    MERGED = "a statement for every shard, and a merge"
    GATHERED = "tables copied to one database, and the statement there"
    COPIES = "every copy of a reference table"
    SPLIT = "rows of a write, each where its key says"
    FANNED = "a write that every shard applies to its own rows"
    FOUND = "rows that are found first, then written by their keys"
    MOVED = "rows that are found first, then moved to the shards of their new keys"
    TRANSFERRED = "rows that are read first, then inserted"
    REFUSED = "refused"


_TIERS = {
    Reach.ONE: Tier.ONE,
    Reach.SOME: Tier.CONCATENATED,
    Reach.ALL: Tier.CONCATENATED,
    Reach.COPIES: Tier.COPIES,
    Reach.REFUSED: Tier.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A database, and the shard it is reached for (``keyspace/shard``), if any."""

    database: str
    shard: str | None = None

    @property
    def name(self) -> str:
        """The shard, or the database where there is none; the two never look alike."""
        return self.shard or self.database

    def __str__(self) -> str:
        return f"{self.shard} (database {self.database})" if self.shard else self.database


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a statement is not executed: an id of the catalogue, what, and the remedy."""

    id: str
    what: str
    fix: str = ""
    where: str = ""
    error: type[RouterError] = CrossShardError

    def exception(self) -> RouterError:
        """Return the error to raise."""
        return self.error(self.id, self.what, where=self.where, fix=self.fix)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The parameter whose list of keys each shard gets its own part of."""

    index: int
    name: str
    parts: dict[str, list[Any]]
    """Database name to the values that belong there."""


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows of a write belong where: database name to their positions, in order."""

    parts: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Target:
    """One, some or all shards, every copy of a reference table, or a refusal; with reasons."""

    reach: Reach
    destinations: tuple[Destination, ...] = ()
    reasons: tuple[str, ...] = ()
    refusal: Refusal | None = None
    narrowing: Narrowing | None = None
    exact: Tier | None = None
    """The tier of a statement that concatenation alone would not answer exactly."""
    split: Split | None = None

    @property
    def tier(self) -> Tier:
        """How the rows become one answer."""
        return self.exact or _TIERS[self.reach]

    def __str__(self) -> str:
        where = ", ".join(str(destination) for destination in self.destinations)
        head = f"{self.reach.value}: {where}" if where else self.reach.value
        if self.refusal is not None:
            head = f"{head}: {self.refusal.id} {self.refusal.what}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])


def refused(id: str, what: str) -> Target:
    """Return the target of a statement that is not executed."""
    return Target(Reach.REFUSED, refusal=Refusal(id, what))
