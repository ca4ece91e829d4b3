"""Writing a reference table: the same rows to every copy, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column, Delete, Insert, Table
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.functions import FunctionElement

from router.errors import CrossShardError
from router.hooks.mappers import subject_of
from router.hooks.statements import attribute_names, plain_table, resolved
from router.route.rows import rows_of
from router.route.target import Destination
from router.route.transparency import ROW_FUNCTIONS

Call = Callable[..., Any]


def write_copies(
    statement: Any,
    params: Any,
    destinations: Sequence[Destination],
    calls: Sequence[Call],
    tear: Callable[[BaseException], None],
) -> Any:
    """Execute a write on every copy and return the first copy's result.

    Copies are written in the order of the map, so the first one serialises writers.  What
    goes wrong after the first copy was written is told to `tear`.

    Raises
    ------
    CrossShardError
        A value could differ from copy to copy, or the copies turn out to differ already.
    """
    statement = resolved(statement)
    refuse_different_values(statement, params)
    first = calls[0]()
    try:
        for destination, call in zip(destinations[1:], calls[1:], strict=True):
            # The first copy has brought the session's objects up to date.
            inserts = isinstance(statement, Insert)
            other = call() if inserts else call(synchronize_session=False)
            compare_copies(plain_table(statement.table), first, other, destination)
            other.close()
    except BaseException as error:
        tear(error)
        raise
    return first


def compare_copies(table: Table, first: Any, other: Any, destination: object) -> None:
    """Raise `CrossShardError` if two copies changed different numbers of rows."""
    counts = getattr(first, "rowcount", -1), getattr(other, "rowcount", -1)
    if -1 not in counts and counts[0] != counts[1]:
        what = (
            f"the copies of reference table {table.fullname} differ: the write changed "
            f"{counts[0]} rows on the first copy, {counts[1]} on {destination}"
        )
        raise CrossShardError("R307", what)


def refuse_different_values(statement: Any, params: Any) -> None:
    """Raise `CrossShardError` if each copy could get values, or choose rows, of its own."""
    table = plain_table(statement.table)
    for part in visitors.iterate(statement):
        name = getattr(part, "name", "") if isinstance(part, FunctionElement) else None
        if isinstance(part, TextClause) or (name is not None and name not in ROW_FUNCTIONS):
            what = f"a write to reference table {table.fullname} contains {str(part)[:60]!r}"
            raise CrossShardError("R308", f"{what}, which could differ from copy to copy")
    if not isinstance(statement, Delete):
        inserts = isinstance(statement, Insert)
        for row in rows_of(statement, params):
            _refuse_generated(table, subject_of(statement), row, inserts)


def _refuse_generated(table: Table, mapper: Any, row: Any, inserts: bool) -> None:
    given = {name if isinstance(name, str) else getattr(name, "key", "") for name in row}
    for column in table.columns:
        generated = _is_generated(column) if inserts else _is_renewed(column)
        if generated and not given.intersection(attribute_names(mapper, column)):
            what = f"the value of {table.fullname}.{column.name} is generated for each copy"
            raise CrossShardError("R308", what)


def _is_generated(column: Column[Any]) -> bool:
    default = column.default
    if default is not None and not default.is_scalar:
        return True
    if column.server_default is not None or column.identity is not None:
        return True
    return column is column.table.autoincrement_column


def _is_renewed(column: Column[Any]) -> bool:
    renewed = column.onupdate
    return column.server_onupdate is not None or (renewed is not None and not renewed.is_scalar)


def copy_row(
    tables: Sequence[Table], key: Any, old: Any, source: Any, others: Sequence[Any]
) -> None:
    """Bring the row of `key` on every other connection in step with `source`.

    Parameters
    ----------
    tables:
        The tables the row is spread over (joined inheritance), parents first.
    key:
        Primary key values on `source` now; None if the row was deleted there.
    old:
        Primary key values on the other copies; None if the row is not there yet.
    """
    for table in tables if key is not None else reversed(tables):
        values = _values(table, key, source) if key is not None else None
        for connection in others:
            _apply(table, values, old, connection)


def _values(table: Table, key: Any, source: Any) -> dict[str, Any]:
    row = source.execute(table.select().where(*_criteria(table, key))).mappings().one()
    return {column.key: row[column] for column in table.columns if column.computed is None}


def _apply(table: Table, values: dict[str, Any] | None, old: Any, connection: Any) -> None:
    if values is not None and old is None:
        connection.execute(table.insert().values(values))
        return
    change: Any = table.delete() if values is None else table.update().values(values)
    if connection.execute(change.where(*_criteria(table, old))).rowcount != 1:
        what = f"the copies of reference table {table.fullname} differ: one has no row {old!r}"
        raise CrossShardError("R307", what)


def _criteria(table: Table, key: Any) -> list[Any]:
    return [column == value for column, value in zip(table.primary_key, key, strict=True)]
