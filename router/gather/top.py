"""The first rows of every shard, where a statement only wants the first of all.

No shard can contribute more than its own first rows to the first rows of all, by the order of
the database itself: of one table, with a LIMIT, and nothing that makes other rows of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.sql.elements import BindParameter

from router.gather.pushdown import own_clause
from router.route.facts import Condition, Facts
from router.route.transparency import whole_set_reason

_NONE: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Top:
    """The ORDER BY of a statement in terms of the copied table, and how many rows it may show."""

    order: tuple[Any, ...]
    rows: int


def top_of(table: Table, facts: Facts, given: Mapping[str, Any]) -> Top | None:
    """Return which rows of each shard are enough, None if all are needed."""
    if facts.unread is not None or len(facts.selects) != 1 or len(facts.occurrences) != 1:
        return None
    select, _ = facts.selects[0]
    (one,) = facts.occurrences
    rows = _rows(select, given)
    if rows is None or one.table is not table or _makes_others(select):
        return None
    if any(own_clause(found, one, given) is None for found in facts.conditions):
        return None
    clauses = [Condition(clause, facts.root, facts.environment) for clause in _order(select)]
    order = [own_clause(clause, one, given) for clause in clauses]
    return None if any(clause is None for clause in order) else Top(tuple(order), rows)


def _order(select: Any) -> tuple[Any, ...]:
    return tuple(select._order_by_clauses)


def _makes_others(select: Any) -> bool:
    """Return whether the rows shown are others than those read, or not in their order."""
    plain = select._generate()
    plain._limit_clause = plain._offset_clause = None
    plain._order_by_clauses = _NONE
    return whole_set_reason(plain) is not None


def _rows(select: Any, given: Mapping[str, Any]) -> int | None:
    if select._limit_clause is None:
        return None
    parts = [one for one in (select._limit_clause, select._offset_clause) if one is not None]
    values = [_value(part, given) for part in parts]
    return None if None in values else sum(value or 0 for value in values)


def _value(part: Any, given: Mapping[str, Any]) -> int | None:
    if not isinstance(part, BindParameter):
        return None
    value = given.get(part.key, part.effective_value)
    return value if isinstance(value, int) and value >= 0 else None
