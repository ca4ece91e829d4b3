"""Walks through expressions, to find the subqueries in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import FromClause
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BinaryExpression,
    ClauseList,
    ColumnClause,
    ColumnElement,
    TypeClause,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import ScalarSelect, SelectBase, SelectStatementGrouping

from router.hooks.statements import plain_table
from router.hooks.trace import is_custom

_OUTSIDE_WHERE = (
    "_raw_columns",
    "_having_criteria",
    "_group_by_clauses",
    "_order_by_clauses",
    "_distinct_on",
    "_prefixes",
    "_suffixes",
)
_OUTSIDE_WHERE_ALONE = (
    "_limit_clause",
    "_offset_clause",
    "_fetch_clause",
    "_pre_columns_clause",
    "_post_select_clause",
    "_post_criteria_clause",
    "_post_body_clause",
)


def outside_where(select: Any) -> Iterator[Any]:
    """Yield every clause of a SELECT or set operation but FROM, WHERE and CTEs."""
    for name in _OUTSIDE_WHERE:
        for clause in getattr(select, name, None) or ():
            yield clause[0] if isinstance(clause, tuple) else clause
    for name in _OUTSIDE_WHERE_ALONE:
        clause = getattr(select, name, None)
        if clause is not None:
            yield clause


def is_in_subquery(clause: Any) -> bool:
    """Return whether `clause` reads ``... IN (SELECT ...)``."""
    return (
        isinstance(clause, BinaryExpression)
        and clause.operator is operators.in_op
        and isinstance(clause.right, (ScalarSelect, SelectBase))
    )


def _children(clause: Any) -> Iterator[Any]:
    # FROM elements below a column are not mentions of a table; SELECTs are.
    for child in clause.get_children():
        if isinstance(child, (SelectBase, FunctionElement)) or not isinstance(child, FromClause):
            yield child


def selects(clause: Any) -> Iterator[Any]:
    """Yield the outermost SELECTs inside an expression."""
    if isinstance(clause, SelectBase) and not isinstance(clause, SelectStatementGrouping):
        yield clause
    elif isinstance(clause, FunctionElement) or not isinstance(clause, FromClause):
        for child in _children(clause):
            yield from selects(child)


def looks_elsewhere(clause: Any, table: Any) -> bool:
    """Return whether an expression may read more than one row of `table`, or cannot be seen."""
    return any(_is_elsewhere(part, table) for part in visitors.iterate(clause))


def _is_elsewhere(part: Any, table: Any) -> bool:
    if isinstance(part, ColumnClause):
        return part.is_literal or part.table is None or plain_table(part.table) is not table
    plain = isinstance(part, (ColumnElement, FunctionElement, ClauseList, TypeClause))
    return not plain or is_custom(part)


def columns_of(clause: Any) -> Iterator[ColumnClause[Any]]:
    """Yield the columns in an expression, not those in its SELECTs."""
    if isinstance(clause, ColumnClause):
        yield clause
    elif not isinstance(clause, (SelectBase, FromClause)) or isinstance(clause, FunctionElement):
        for child in _children(clause):
            yield from columns_of(child)
