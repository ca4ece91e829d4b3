"""Values that the database computes for the columns that a row leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.sql import ClauseElement

from router.route.clauses import looks_elsewhere


def sql_defaults(defaults: Iterable[Any]) -> Iterator[ClauseElement]:
    """Yield the SQL expressions among the defaults of columns, some of which have none."""
    return (one.arg for one in defaults if one is not None and one.is_clause_element)


def computed_defaults(table: Table) -> dict[Column[Any], ClauseElement]:
    """Return the SQL expressions that are defaults of new rows, by their columns."""
    columns = ((column, column.default) for column in table.columns)
    return {column: sql for column, default in columns for sql in sql_defaults([default])}


def far_defaults(table: Table) -> tuple[Column[Any], ...]:
    """Return the columns whose defaults may be read from other rows than the new one."""
    computed = computed_defaults(table).items()
    return tuple(column for column, sql in computed if looks_elsewhere(sql, table))
