"""Groups that cross shards: what every shard aggregates, and how that is put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from router.rewrite.formulas import Formula
from router.rewrite.kinds import Kind
from router.rewrite.shown import Shown


class Combine(Enum):
    """How one group's values of several shards become one; NULL takes no part."""

    ADD = "sum"
    LEAST = "least"
    GREATEST = "greatest"
    EVERY = "all true"
    SOME = "any true"


@dataclass(frozen=True, slots=True)
class Compared:
    """A position whose values are compared, and as what."""

    position: int
    kind: Kind
    mixed: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """A position that carries an aggregate.

    Parameters
    ----------
    position:
        Where the rows carry it.
    combine:
        How the values of the shards become one.
    by:
        For the least and the greatest: what decides.
    bits:
        The width of whole numbers that the database would overflow beyond.
    text:
        How it is written.
    """

    position: int
    combine: Combine
    by: Compared | None = None
    bits: int = 64
    text: object = ""

    def __str__(self) -> str:
        return f"{self.combine.value} of {self.text}"


@dataclass(frozen=True, slots=True)
class Computed:
    """A position whose value follows from others, once they are merged."""

    position: int
    formula: Formula

    def __str__(self) -> str:
        return f"compute {self.formula.text}"


@dataclass(frozen=True, slots=True)
class Groups:
    """How the groups of all shards are put together.

    Without `keys` all rows are one group.
    """

    keys: tuple[Compared, ...]
    names: tuple[Shown, ...]
    cells: Sequence[Cell]
    computed: Sequence[Computed]
    having: Formula | None

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps, for people."""
        found = [f"group by {', '.join(map(str, self.names))}"] if self.names else []
        found += dict.fromkeys(map(str, self.cells))
        found += map(str, self.computed)
        if self.having is not None:
            found.append(f"having {self.having.text}")
        return tuple(found)
