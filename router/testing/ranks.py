"""Which rows of a sorted statement are ties, asked of the database itself.

Only the database knows what its collations and numbers take for equal.  So the statement is
run once more, without its limit, and with one more column: the dense rank of every row.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from sqlalchemy import (
    CTE,
    BinaryExpression,
    Case,
    Cast,
    CompoundSelect,
    Select,
    Subquery,
    UnaryExpression,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import Label, _label_reference, _textual_label_reference
from sqlalchemy.sql.functions import FunctionElement

RANK = "router_rank"
_MODIFIERS = {
    operators.desc_op,
    operators.asc_op,
    operators.nulls_first_op,
    operators.nulls_last_op,
}
_CHOOSING = {"min", "max", "first_value", "last_value", "nth_value", "lag", "lead", "mode"}


def is_sorted(statement: Any) -> bool:
    """Return whether the order of the statement's rows means something."""
    return bool(getattr(statement, "_order_by_clauses", ()))


def is_limited(statement: Any) -> bool:
    """Return whether the statement cuts its rows short."""
    limits = ("_limit_clause", "_offset_clause", "_fetch_clause")
    return any(getattr(statement, name, None) is not None for name in limits)


def chooses(statement: Any) -> bool:
    """Return whether a database may choose which of several equal values to show."""
    for element in visitors.iterate(statement):
        if isinstance(element, Select) and (element._distinct or element._group_by_clauses):
            return True
        if isinstance(element, CompoundSelect) and element.keyword.value != "UNION ALL":
            return True
        if isinstance(element, FunctionElement) and getattr(element, "name", "") in _CHOOSING:
            return True
    return False


def computes_with_chosen(statement: Any) -> bool:
    """Return whether an expression may be of a value that a database chose among equal ones."""
    for element in visitors.iterate(statement):
        if isinstance(element, Subquery | CTE) and chooses(element.element):
            return True
        groups = element._group_by_clauses if isinstance(element, Select) else ()
        if any(map(_is_computed, chain.from_iterable(map(visitors.iterate, groups)))):
            return True
        if _is_computed(element) and any(map(_is_choosing, visitors.iterate(element))):
            return True
    return False


def _is_computed(element: Any) -> bool:
    if isinstance(element, UnaryExpression):
        # Others say how rows are sorted.
        return element.operator is not None
    found = isinstance(element, BinaryExpression | Case | Cast | FunctionElement)
    return found and not _is_choosing(element)


def _is_choosing(element: Any) -> bool:
    return isinstance(element, FunctionElement) and getattr(element, "name", "") in _CHOOSING


def ranked(statement: Any) -> Any:
    """Return `statement` without its limit and with the rank of its rows, or None.

    The rank is the last column.  None: ties of this statement cannot be told.
    """
    if not isinstance(statement, Select | CompoundSelect):
        return None
    order = [_expression(clause, statement) for clause in statement._order_by_clauses]
    if any(clause is None for clause in order):
        return None
    if isinstance(statement, CompoundSelect) or statement._distinct_on:
        return _around(statement, order)
    bare = unlimited(statement).order_by(None)
    return bare.add_columns(func.dense_rank().over(order_by=order).label(RANK) if order else _ONE)


def unlimited(statement: Any) -> Any:
    """Return `statement` with all of its rows."""
    if getattr(statement, "_fetch_clause", None) is not None:
        statement = statement.fetch(None)
    return statement.limit(None).offset(None)


_ONE: Any = literal_column("1").label(RANK)


def _around(statement: Any, order: list[Any]) -> Any:
    keep = isinstance(statement, Select)
    inner = unlimited(statement)
    table = (inner if keep else inner.order_by(None)).subquery()
    outer = [_translated(clause, table) for clause in order]
    if any(clause is None for clause in outer):
        return None
    rank = func.dense_rank().over(order_by=outer).label(RANK) if outer else _ONE
    return select(*table.c, rank)


def _translated(clause: Any, table: Subquery) -> Any:
    if isinstance(clause, UnaryExpression) and clause.modifier in _MODIFIERS:
        inner = _translated(clause.element, table)
        return None if inner is None else UnaryExpression(inner, modifier=clause.modifier)
    found = table.corresponding_column(clause)
    return found if found is not None else table.c.get(getattr(clause, "name", ""))


def _expression(clause: Any, statement: Any) -> Any:
    """Return what a clause of ORDER BY sorts by, without references to labels."""
    if isinstance(clause, _label_reference):
        return _expression(clause.element, statement)
    if isinstance(clause, _textual_label_reference):
        named = statement.selected_columns.get(clause.element)
        return None if named is None else _expression(named, statement)
    if isinstance(clause, UnaryExpression) and clause.modifier in _MODIFIERS:
        inner = _expression(clause.element, statement)
        return None if inner is None else UnaryExpression(inner, modifier=clause.modifier)
    if isinstance(clause, Label) and not isinstance(statement, CompoundSelect):
        return _expression(clause.element, statement)
    if any(
        element.__visit_name__ in {"over", "textclause"} for element in visitors.iterate(clause)
    ):
        return None
    return clause
