"""Whether a SELECT shows its rows one by one, and what in it needs all rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import CompoundSelect, FromClause, Select
from sqlalchemy.sql.elements import Over, WithinGroup
from sqlalchemy.sql.functions import FunctionElement, GenericFunction
from sqlalchemy.sql.selectable import ScalarSelect, SelectBase, SelectStatementGrouping

# Functions of one row's values, whose result does not depend on when or where they run.
ROW_FUNCTIONS = frozenset(
    "abs ceil ceiling char_length character_length coalesce concat concat_ws floor greatest "
    "left length lower lpad ltrim mod nullif octet_length power replace reverse right round "
    "rpad rtrim sign sqrt strpos substr substring trim upper".split()
)

AGGREGATES = frozenset("avg count max min sum".split())


def whole_set_reason(select: Any) -> str | None:
    """Return what in `select` depends on more than one row at a time, or None."""
    while isinstance(select, SelectStatementGrouping):
        select = select.element
    if isinstance(select, CompoundSelect):
        return "a set operation"
    for present, name in (
        (select._group_by_clauses, "GROUP BY"),
        (select._having_criteria, "HAVING"),
        (select._distinct, "DISTINCT"),
        (select._limit_clause is not None, "LIMIT"),
        (select._offset_clause is not None, "OFFSET"),
        (select._fetch_clause is not None, "FETCH"),
        (select._prefixes or select._suffixes or select._hints, "a prefix, suffix or hint"),
    ):
        if present:
            return name
    return _function_reason(select)


def is_transparent(select: Any) -> bool:
    """Return whether restricting the rows `select` reads only restricts the rows it gives."""
    return whole_set_reason(select) is None


def gives_one_row(select: Select[Any]) -> bool:
    """Return whether `select` may aggregate without GROUP BY: one row, even of no rows."""
    grouped = bool(select._group_by_clauses)
    return not grouped and (bool(select._having_criteria) or _function_reason(select) is not None)


def _function_reason(select: Select[Any]) -> str | None:
    for column in (*select._raw_columns, *select._order_by_clauses):
        for function in row_functions(column):
            if isinstance(function, (Over, WithinGroup)):
                return "a window function"
            if function_name(function) not in ROW_FUNCTIONS:
                return f"the function {function_name(function)}()"
    return None


def function_name(function: Any) -> str:
    """Return the lower-case name of a function as written in SQL, its packages included."""
    if isinstance(function, GenericFunction):
        return str(function.name).lower()
    packages = getattr(function, "packagenames", ())
    return ".".join((*packages, getattr(function, "name", "?"))).lower()


def row_functions(clause: Any) -> Iterator[Any]:
    """Yield the functions in an expression, not those inside its subqueries."""
    if isinstance(clause, (FunctionElement, Over, WithinGroup)):
        yield clause
    if isinstance(clause, (SelectBase, ScalarSelect, FromClause)) and not isinstance(
        clause, FunctionElement
    ):
        return
    for child in clause.get_children():
        yield from row_functions(child)
