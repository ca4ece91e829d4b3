"""The columns of a statement by position, and those that only the merge sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, type_coerce
from sqlalchemy.sql.elements import ClauseList, ColumnClause, Grouping, Label, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from router.hooks.selects import (
    is_entity,
    label_target,
    names_of_columns,
    resolved_name,
    with_columns,
    written_alike,
)
from router.rewrite.kinds import Values, values_of
from router.rewrite.shown import Shown
from router.rewrite.terms import InexactError, Terms

HIDDEN = "router_"
"""How the names of columns begin that only the merge sees."""


def bare(expression: Any) -> Any:
    """Return `expression` without labels and parentheses around it."""
    while True:
        inner = label_target(expression)
        if inner is not None:
            expression = inner
        elif isinstance(expression, Label) or (
            isinstance(expression, Grouping) and isinstance(expression.element, ColumnElement)
        ):
            expression = expression.element
        elif type(expression) is ClauseList and len(expression.clauses) == 1:
            # What GROUP BY makes of a function.
            expression = expression.clauses[0]
        else:
            return expression


def same(left: Any, right: Any) -> bool:
    """Return whether two expressions are written alike, their parameters included."""
    if isinstance(left, ColumnClause) or isinstance(right, ColumnClause):
        # What the ORM has annotated has the hash of the column itself.
        return hash(left) == hash(right)
    if isinstance(left, FunctionElement) and left.name != getattr(right, "name", None):
        return False
    return left is right or written_alike(left, right)


class Columns:
    """The columns of a SELECT; hidden ones are added behind those that it has.

    `shown` are those that the caller sees: expressions, or None for an entity or a bundle,
    whose columns have no position of their own.
    """

    def __init__(self, select: Select[Any], terms: Terms) -> None:
        self.select = select
        self.terms = terms
        self.shown: list[Any] = list(_shown(select))
        self.hidden: list[Any] = []

    @property
    def width(self) -> int:
        """How many columns the caller sees."""
        return len(self.shown)

    def known(self, expression: Any, what: str) -> tuple[int, Values]:
        """Return the position of what the driver gives for `expression`, and what that is.

        `what` names its use, for the refusal of values of which too little is known.
        """
        expression = self.resolve(expression)
        values = values_of(expression, self.terms)
        if values is None:
            raise InexactError(f"{what} {Shown(expression)}: only the database compares it")
        return self.raw(expression, values), values

    def raw(self, expression: Any, values: Values | None) -> int:
        """Return the position of what the driver gives for `expression`."""
        if values is not None and values.plain:
            for position, column in enumerate(self.shown):
                if column is not None and same(bare(column), expression):
                    return position
        return self.add(type_coerce(expression, NullType()))

    def add(self, expression: Any) -> int:
        """Return the position of a column that only the merge sees."""
        for position, column in enumerate(self.hidden):
            if same(column.element, expression):
                return self.width + position
        self.hidden.append(expression.label(f"{HIDDEN}{len(self.hidden)}"))
        return self.width + len(self.hidden) - 1

    def resolve(self, expression: Any) -> Any:
        """Return what a clause of ORDER BY or GROUP BY means: names and positions resolved."""
        name = resolved_name(expression)
        if name is not None:
            return bare(self._named(name))
        expression = bare(expression)
        if isinstance(expression, TextClause):
            return self._numbered(expression.text)
        if isinstance(expression, ColumnClause) and expression.is_literal:
            return self._numbered(expression.name)
        return expression

    def _named(self, name: str) -> Any:
        found = names_of_columns(self.select, name)
        if len(found) != 1:
            raise InexactError(f"the name {name!r} in ORDER BY or GROUP BY is not clear")
        return found[0]

    def _numbered(self, text: str) -> Any:
        # Entities are several columns in SQL, and expressions that are numbers none.
        if not text.isdecimal() or any(one is None for one in self.shown):
            raise InexactError(f"the text {text[:60]!r}")
        number = int(text)
        if not 1 <= number <= self.width:
            raise InexactError(f"the position {number} in ORDER BY or GROUP BY")
        return bare(self.shown[number - 1])

    def statement(self) -> Select[Any]:
        """Return the SELECT with the hidden columns added."""
        if not self.hidden:
            return self.select
        changed: Select[Any] | None = with_columns(self.select, self.hidden)
        if changed is None:
            raise InexactError("ORDER BY or HAVING of a table that is not in the FROM")
        return changed


def _shown(select: Any) -> Iterator[Any]:
    for element in select._raw_columns:
        if is_entity(element):
            yield None
        elif isinstance(element, ColumnElement) or not isinstance(element, FromClause):
            yield element
        else:
            yield from element._select_iterable


def expressions(clauses: Sequence[Any], columns: Columns) -> list[Any]:
    """Return what the clauses of GROUP BY mean."""
    return [columns.resolve(one) for one in clauses]
