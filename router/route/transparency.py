"""Whether a SELECT shows its rows one by one, and what in it needs all rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import CompoundSelect, FromClause, Select
from sqlalchemy.sql.elements import ColumnClause, Over, TextClause, WithinGroup
from sqlalchemy.sql.functions import FunctionElement, GenericFunction
from sqlalchemy.sql.selectable import ScalarSelect, SelectBase, SelectStatementGrouping

from router.hooks.trace import is_custom
from router.route.texts import is_plain_value

# Functions of one row's values, whose result does not depend on when or where they run.
ROW_FUNCTIONS = frozenset(
    "abs ceil ceiling char_length character_length coalesce concat concat_ws floor greatest "
    "left length lower lpad ltrim mod nullif octet_length power replace reverse right round "
    "rpad rtrim sign sqrt strpos substr substring trim upper".split()
)

AGGREGATES = frozenset("avg count max min sum".split())

# Further functions of several rows, whose results a merge may put together.
MERGEABLE_FUNCTIONS = frozenset(
    "bool_and bool_or cume_dist dense_rank every first_value lag last_value lead nth_value ntile "
    "percent_rank rank row_number".split()
)

_EXTENSIONS = (
    "_pre_columns_clause",
    "_post_select_clause",
    "_post_criteria_clause",
    "_post_body_clause",
)


def whole_set_reason(select: Any) -> str | None:
    """Return what in `select` depends on more than one row at a time, or None."""
    while isinstance(select, SelectStatementGrouping):
        select = select.element
    if isinstance(select, CompoundSelect):
        return "a set operation"
    extensions = [name for name in _EXTENSIONS if getattr(select, name, None) is not None]
    for present, name in (
        (select._group_by_clauses, "GROUP BY"),
        (select._having_criteria, "HAVING"),
        (select._distinct, "DISTINCT"),
        (select._limit_clause is not None, "LIMIT"),
        (select._offset_clause is not None, "OFFSET"),
        (select._fetch_clause is not None, "FETCH"),
        (select._prefixes or select._suffixes, "a prefix or suffix"),
        (select._hints or select._statement_hints, "a hint"),
        (extensions, "an extension of the SELECT"),
    ):
        if present:
            return name
    return _part_reason(select)


def is_transparent(select: Any) -> bool:
    """Return whether restricting the rows `select` reads only restricts the rows it gives."""
    return whole_set_reason(select) is None


def gives_one_row(select: Select[Any]) -> bool:
    """Return whether `select` may aggregate without GROUP BY: one row, even of no rows."""
    grouped = bool(select._group_by_clauses)
    return not grouped and (bool(select._having_criteria) or _part_reason(select) is not None)


def _part_reason(select: Select[Any]) -> str | None:
    for column in (*select._raw_columns, *select._order_by_clauses):
        for part in _notable_parts(column):
            if isinstance(part, (Over, WithinGroup)):
                return "a window function"
            if not isinstance(part, FunctionElement):
                return f"the text {str(part)[:60]!r}"
            if is_custom(part) or _function_name(part) not in ROW_FUNCTIONS:
                return f"the function {_function_name(part)}()"
    return None


def _function_name(function: Any) -> str:
    """Return the lower-case name of a function as written in SQL, its packages included."""
    if isinstance(function, GenericFunction):
        return str(function.name).lower()
    packages = getattr(function, "packagenames", ())
    return ".".join((*packages, getattr(function, "name", type(function).__name__))).lower()


def _notable_parts(clause: Any) -> Iterator[Any]:
    """Yield the functions and texts in an expression, not those inside its subqueries."""
    if isinstance(clause, (FunctionElement, Over, WithinGroup)) or _is_text(clause):
        yield clause
    closed = isinstance(clause, (SelectBase, ScalarSelect, FromClause))
    if isinstance(clause, FunctionElement) or not closed:
        for child in clause.get_children():
            yield from _notable_parts(child)


def _is_text(clause: Any) -> bool:
    if isinstance(clause, ColumnClause):
        return clause.is_literal and not is_plain_value(clause.name)
    if isinstance(clause, TextClause):
        return not is_plain_value(clause.text)
    return is_custom(clause)
