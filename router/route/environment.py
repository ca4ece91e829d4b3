"""Which mention of a table a column belongs to, at its place in a statement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import FromClause
from sqlalchemy.sql.elements import ColumnClause, Grouping, Label
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectStatementGrouping

from router.hooks.statements import aliased_cte, proxied
from router.route.regions import ColumnRef, Occurrence


@dataclass(frozen=True, eq=False)
class Derived:
    """A derived table: what its SELECT sees, and the names that it goes by."""

    within: Environment
    names: frozenset[FromClause]


@dataclass(eq=False)
class Environment:
    """The FROM elements that a SELECT can see, its own first, then those around it."""

    outer: Environment | None = None
    tables: dict[FromClause, Occurrence] = field(default_factory=dict)
    derived: dict[FromClause, Derived] = field(default_factory=dict)
    unknown: set[FromClause] = field(default_factory=set)

    def find(self, column: Any) -> ColumnRef | None:
        """Return the table's column that `column` is, through derived tables; None if unknown."""
        column = _plain(column)
        element = getattr(column, "table", None)
        if element is None or column.is_literal:
            return None
        for one in self._outwards():
            if element in one.tables:
                return ColumnRef(one.tables[element].number, column.name)
            if element in one.derived:
                return _behind(column, one.derived[element])
            if element in one.unknown:
                return None
        return None

    def sees(self, column: Any) -> bool:
        """Return whether a column's table is in sight, be it known or not."""
        element = column.table
        return element is None or any(
            element in one.tables or element in one.derived or element in one.unknown
            for one in self._outwards()
        )

    def _outwards(self) -> Iterator[Environment]:
        at: Environment | None = self
        while at is not None:
            yield at
            at = at.outer


def _plain(column: Any) -> Any:
    while isinstance(column, (Grouping, Label)):
        column = column.element
    return column if isinstance(column, ColumnClause) else None


def _behind(column: Any, derived: Derived) -> ColumnRef | None:
    inner = proxied(column)
    while getattr(inner, "table", None) in derived.names:
        inner = proxied(inner)
    return derived.within.find(inner)


def layers(element: Any) -> list[Any]:
    """Return `element` and whatever it is another name of, down to a table or a SELECT."""
    found = [element]
    while isinstance(found[-1], AliasedReturnsRows):
        cte = aliased_cte(found[-1])
        found.append(found[-1].element if cte is None else cte)
    while isinstance(found[-1], SelectStatementGrouping):
        found.append(found[-1].element)
    return found
