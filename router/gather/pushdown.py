"""Which rows of a table a gathered statement can do without.

A conjunct that every row must satisfy to matter, and that looks at one mention of a
table alone, is applied where the rows are read: the statement applies it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table, and_, bindparam, or_
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter, ColumnClause
from sqlalchemy.sql.functions import FunctionElement

from router.hooks.trace import is_custom
from router.route.clauses import selects
from router.route.facts import Condition, Facts
from router.route.regions import Occurrence
from router.route.transparency import ROW_FUNCTIONS


def condition_on(table: Table, facts: Facts, given: Mapping[str, Any]) -> Any:
    """Return a condition on `table` itself that every row which matters satisfies, or None.

    `given` are the values of this execution, by the names of their parameters.
    """
    mentions = [one for one in facts.occurrences if one.table is table]
    found = [_conjuncts(one, facts, given) for one in mentions]
    if not found or not all(found):
        return None
    return or_(*(and_(*conjuncts) for conjuncts in found))


def _conjuncts(one: Occurrence, facts: Facts, given: Mapping[str, Any]) -> list[Any]:
    # A condition around the optional side of an outer join sees the NULLs of rows without
    # a match: leaving out a row would make such ones.
    within = one.region.certain()
    filters = [
        region
        for region in one.region.known()
        if region in within or one.region in region.certain()
    ]
    conditions = [found for found in facts.conditions if found.region in filters]
    made = (own_clause(found, one, given) for found in conditions)
    return [clause for clause in made if clause is not None]


def own_clause(condition: Condition, one: Occurrence, given: Mapping[str, Any]) -> Any:
    """Return a clause in terms of the table itself, None if it looks at anything else."""
    if next(selects(condition.clause), None) is not None:
        return None
    mentions = 0
    for part in visitors.iterate(condition.clause):
        if isinstance(part, ColumnClause):
            found = condition.environment.find(part)
            if found is None or found.occurrence != one.number or part.is_literal:
                return None
            mentions += 1
        elif is_custom(part) or not _is_plain(part):
            return None
    if not mentions:
        return None

    def replace(element: Any, **kw: Any) -> Any:
        del kw
        return _own(element, condition, one, given)

    clause: Any = visitors.replacement_traverse(condition.clause, {}, replace)
    return clause if all(_is_own(part, one, given) for part in visitors.iterate(clause)) else None


def _is_own(part: Any, one: Occurrence, given: Mapping[str, Any]) -> bool:
    # The ORM forbids to replace anything in some of its clauses.
    if isinstance(part, ColumnClause):
        return part.table is one.table
    return not isinstance(part, BindParameter) or part.key not in given


def _own(part: Any, condition: Condition, one: Occurrence, given: Mapping[str, Any]) -> Any:
    if isinstance(part, BindParameter) and part.key in given:
        value = given[part.key]
        return bindparam(None, value, type_=part.type, unique=True, expanding=part.expanding)
    if not isinstance(part, ColumnClause):
        return None
    found = condition.environment.find(part)
    return None if found is None else one.table.columns[_key(one.table, found.column)]


def _key(table: Table, name: str) -> str:
    return next(column.key for column in table.columns if column.name == name)


_PLAIN = frozenset(
    "binary unary grouping bindparam clauselist expression_clauselist null true false tuple "
    "between case cast type_coerce label extract".split()
)


def _is_plain(part: Any) -> bool:
    if isinstance(part, FunctionElement):
        return str(getattr(part, "name", "")).lower() in ROW_FUNCTIONS
    if isinstance(part, BindParameter):
        return part.callable is None
    return part.__visit_name__ in _PLAIN
