"""Values that new rows leave to defaults, given to them before they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.elements import BindParameter, Null

from router.errors import CrossShardError
from router.hooks.dml import computed_default, given_rows, with_rows
from router.hooks.mappers import setting_names
from router.hooks.statements import attribute_names, given_values, resolved
from router.route.parameters import plain_value
from router.route.rows import is_column
from router.session.execution import Execution

Columns = Sequence[Column[Any]]
Given = Mapping[Any, Any]


def completed(execution: Execution, columns: Columns, mapper: Mapper[Any] | None) -> Execution:
    """Return an INSERT whose rows give every one of `columns` that a Python function would.

    Raises
    ------
    CrossShardError
        Only the database could tell a value.
    """
    statement, params = resolved(execution.statement), execution.params
    given = given_rows(statement)
    base = {} if given else next(iter(given_values(statement)), {})
    if params:
        many = isinstance(params, (list, tuple))
        rows = [_whole(row, columns, mapper, base) for row in (params if many else [params])]
        return execution.of(execution.statement, rows if many else rows[0])
    if given:
        return execution.of(with_rows(statement, [_whole(r, columns, mapper, {}) for r in given]))
    return execution.of(statement.values(_whole({}, columns, mapper, base)))


def value_of(row: Given, column: Column[Any], mapper: Mapper[Any] | None) -> Any:
    """Return the value that a complete row has for `column`.

    Raises
    ------
    CrossShardError
        The database computes it.
    """
    if not row.keys().isdisjoint(setting_names(mapper, column)):
        raise _computed(column)
    found = [value for name, value in row.items() if _names(name, column, mapper)]
    value = found[0] if found else getattr(column.default, "arg", None)
    if isinstance(value, BindParameter):
        value = row[value.key] if value.key in row else plain_value(value)
    if isinstance(value, Null):
        return None
    if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
        raise _computed(column)
    return value


def _whole(row: Given, columns: Columns, mapper: Mapper[Any] | None, base: Given) -> dict[Any, Any]:
    """Return `row` with the values of Python functions; `base` is what the statement gives."""
    whole = dict(row)
    named = {**base, **row}
    for column in columns:
        default: Any = column.default
        if any(_names(name, column, mapper) for name in named) or _is_null(column):
            continue
        if default is None or not (default.is_scalar or default.is_callable):
            raise _computed(column)
        if default.is_callable:
            own = {c.key: named[n] for c in columns for n in named if _names(n, c, mapper)}
            try:
                whole[attribute_names(mapper, column)[0]] = computed_default(default, column, own)
            except LookupError as error:
                raise CrossShardError("R313", str(error.args[0])) from error
    return whole


def _names(name: Any, column: Column[Any], mapper: Mapper[Any] | None) -> bool:
    if isinstance(name, str):
        return name in attribute_names(mapper, column)
    return is_column(name, column)


def _is_null(column: Column[Any]) -> bool:
    """Return whether a row that does not give `column` has NULL there."""
    generated = column.default is not None or column.server_default is not None
    return not generated and not column.primary_key


def _computed(column: Column[Any]) -> CrossShardError:
    what = f"the database computes {column.table.fullname}.{column.name}"
    return CrossShardError("R313", what, fix="give new rows this value")
