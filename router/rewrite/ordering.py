"""ORDER BY: by what the merge compares rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import Grouping, UnaryExpression

from router.hooks.selects import label_target
from router.rewrite.columns import Columns
from router.rewrite.kinds import Kind
from router.rewrite.shown import Shown
from router.rewrite.terms import Family, InexactError

_DIRECTIONS = (operators.asc_op, operators.desc_op)
_NULLS = (operators.nulls_first_op, operators.nulls_last_op)


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of ORDER BY.

    Parameters
    ----------
    position:
        Where the rows carry its value.
    kind:
        The kind of its values.
    descending, nulls_first:
        Its direction.
    mixed:
        Values of several storage classes may meet, which SQLite orders by class.
    text:
        How it is written.
    """

    position: int
    kind: Kind
    descending: bool
    nulls_first: bool
    mixed: bool
    text: Shown

    def __str__(self) -> str:
        return f"{self.text} desc" if self.descending else str(self.text)


@dataclass(frozen=True, slots=True)
class Direction:
    """An expression of ORDER BY apart from its direction."""

    expression: Any
    descending: bool
    nulls_first: bool


def direction(clause: Any, family: Family) -> Direction:
    """Take a clause of ORDER BY apart."""
    descending, nulls_first = False, None
    while True:
        inner = label_target(clause)
        if inner is not None:
            clause = inner
        elif isinstance(clause, UnaryExpression) and clause.modifier in _DIRECTIONS:
            descending = clause.modifier is operators.desc_op
            clause = clause.element
        elif isinstance(clause, UnaryExpression) and clause.modifier in _NULLS:
            nulls_first = clause.modifier is operators.nulls_first_op
            clause = clause.element
        elif isinstance(clause, Grouping):
            clause = clause.element
        else:
            break
    if nulls_first is None:
        # To PostgreSQL NULL is the highest value, to the others the lowest.
        nulls_first = descending is (family is Family.POSTGRESQL)
    return Direction(clause, descending, nulls_first)


def sort_keys(clauses: Any, columns: Columns) -> tuple[SortKey, ...]:
    """Return the keys of an ORDER BY over rows that every shard gives sorted."""
    return tuple(_sort_key(clause, columns) for clause in clauses)


def _sort_key(clause: Any, columns: Columns) -> SortKey:
    found = direction(clause, columns.terms.family)
    position, values = columns.known(found.expression, "ORDER BY")
    text = Shown(columns.resolve(found.expression))
    if not values.ordered:
        raise InexactError(f"ORDER BY {text}: only the database knows the order of this text")
    return sort_key(found, position, values.kind, text, columns.terms.family)


def sort_key(found: Direction, position: int, kind: Kind, text: Shown, family: Family) -> SortKey:
    """Return the key for a clause of ORDER BY whose value is at `position`."""
    mixed = family is Family.SQLITE
    return SortKey(position, kind, found.descending, found.nulls_first, mixed, text)
