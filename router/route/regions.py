"""The parts of a statement in which a predicate is known to hold.

A region is a set of FROM elements together with the predicates that every row taken
from them must satisfy to matter: a SELECT with its WHERE and inner joins, or the
nullable side of an outer join with its ON.  Facts hold downwards: what is required of
a row outside is required while a subquery is evaluated for it.  They hold upwards only
from regions that are `included`: whose rows take part in the outer row for certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from sqlalchemy import FromClause, Table

from router.route.predicates import Predicate, conjunction


class ColumnRef(NamedTuple):
    """A column of one occurrence of a table in a statement."""

    occurrence: int
    column: str


@dataclass(frozen=True, slots=True)
class Same:
    """Two columns that are equal in every row that matters."""

    left: ColumnRef
    right: ColumnRef


class Part(Enum):
    """What the rows of a region are to the rows of the region around it."""

    JOINED = "joined"
    NULLABLE = "the side of an outer join whose rows may be missing"
    TESTED = "tested for, by EXISTS or IN: they give the outer row, but do not multiply it"


_EVERY = frozenset(Part)


@dataclass(eq=False, slots=True)
class Region:
    """One region; `opaque` ones do not let outer facts in (a LIMIT would see fewer rows)."""

    parent: Region | None = None
    part: Part = Part.JOINED
    opaque: bool = False
    predicates: list[Predicate] = field(default_factory=list)
    equalities: list[Same] = field(default_factory=list)
    included: list[Region] = field(default_factory=list)

    def certain(self) -> list[Region]:
        """Return this region and all that are included in it."""
        return self._reached(_EVERY, [])

    def joined(self) -> list[Region]:
        """Return this region and those of whose rows each of its rows has exactly one."""
        return self._reached(_EVERY - {Part.TESTED}, [])

    def _reached(self, parts: frozenset[Part], found: list[Region]) -> list[Region]:
        found.append(self)
        for region in self.included:
            # Two sides of outer joins may each take part in the other's rows.
            if region.part in parts and region not in found:
                region._reached(parts, found)
        return found

    def is_included(self) -> bool:
        """Return whether the rows of this region take part in those of the one around it."""
        return self.parent is not None and self in self.parent.included

    def may_be_missing(self) -> bool:
        """Return whether a row of an outer join may come without rows of this region."""
        side: Region | None = self
        while side is not None:
            if side.part is Part.NULLABLE and not side.is_included():
                return True
            side = side.parent
        return False

    def known(self) -> list[Region]:
        """Return every region whose facts hold for the rows of this one."""
        found = self.certain()
        outer = None if self.opaque else self.parent
        while outer is not None:
            found.extend(region for region in outer.certain() if region not in found)
            outer = None if outer.opaque else outer.parent
        return found

    def predicate(self) -> Predicate:
        """Return all that is known to hold for the rows of this region."""
        return conjunction(part for region in self.known() for part in region.predicates)

    def classes(self) -> Classes:
        """Return which columns are equal for the rows of this region."""
        classes = Classes()
        for region in self.known():
            for same in region.equalities:
                classes.join(same.left, same.right)
        return classes


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One mention of a table in a statement."""

    number: int
    table: Table
    element: FromClause
    region: Region


class Classes:
    """Sets of equal columns (a disjoint-set forest)."""

    def __init__(self) -> None:
        self._parents: dict[ColumnRef, ColumnRef] = {}

    def find(self, column: ColumnRef) -> ColumnRef:
        """Return the representative of the class of `column`."""
        while (parent := self._parents.get(column, column)) != column:
            column = parent
        return column

    def join(self, left: ColumnRef, right: ColumnRef) -> None:
        """Put both columns into one class."""
        self._parents[self.find(left)] = self.find(right)

    def members(self, column: ColumnRef) -> Iterator[ColumnRef]:
        """Yield every column equal to `column`, itself included."""
        root = self.find(column)
        yield column
        for other in list(self._parents):
            if other != column and self.find(other) == root:
                yield other
        if root != column and root not in self._parents:
            yield root
