"""Parts of INSERT, UPDATE and DELETE statements that are put together anew.

Leans on `Insert._multi_values` and `._generate`, on the `_values`, `_ordered_values`,
`_where_criteria`, `_with_options` and `_returning` of DML statements, and on what
`ColumnDefault` calls its functions with.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, type_coerce
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import UserDefinedType


class Raw(UserDefinedType[Any]):
    """A value that goes to the driver as it came from there."""

    cache_ok = True


def given_rows(statement: Any) -> list[Any]:
    """Return the rows of ``insert().values([...])`` as they were given."""
    return [row for rows in statement._multi_values for row in rows]


def with_rows(statement: Any, rows: Sequence[Any]) -> Any:
    """Return a copy of an ``insert().values([...])`` with other rows."""
    copy = statement._generate()
    copy._multi_values = (list(rows),)
    return copy


def with_criteria(statement: Any, criteria: Any, values: Mapping[Any, Any]) -> Any:
    """Return a copy of an UPDATE or DELETE with other criteria, and some other new values."""
    copy = statement._generate()
    copy._where_criteria = (criteria,)
    return copy.values(dict(values)) if values else copy


def loader_options(statement: Any) -> Sequence[Any]:
    """Return the options of an ORM statement, such as criteria that are added to it."""
    options: Sequence[Any] = getattr(statement, "_with_options", ())
    return options


def functions_of(statement: Any, names: frozenset[str]) -> list[FunctionElement[Any]]:
    """Return the calls, anywhere in a DML statement, of functions that have one of `names`."""
    clauses = [one for part in _parts(statement) for one in _clauses(part)]
    return [
        part
        for clause in (statement, *clauses)
        for part in visitors.iterate(clause)
        if isinstance(part, FunctionElement) and str(getattr(part, "name", "")).lower() in names
    ]


def replaced(statement: Any, values: Mapping[str, Any], name: Callable[[Any], str]) -> Any:
    """Return a copy of a DML statement in which calls are values; `name` tells which."""
    traverse: Any = visitors.replacement_traverse

    def replace(part: Any, **_: Any) -> Any:
        if not isinstance(part, FunctionElement) or name(part) not in values:
            return None
        # Wrapped, so that the ORM evaluates it no more than it would the function.
        return type_coerce(BindParameter(None, values[name(part)], Raw(), unique=True), Raw())

    def inside(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: inside(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)([inside(one) for one in part])
        return traverse(part, {}, replace) if isinstance(part, ClauseElement) else part

    copy = statement._generate()
    for attribute in _PARTS:
        found = getattr(statement, attribute, None)
        if found:
            setattr(copy, attribute, inside(found))
    return copy


_PARTS = ("_values", "_multi_values", "_ordered_values", "_where_criteria", "_returning")


def _parts(statement: Any) -> Iterator[Any]:
    return (getattr(statement, one) for one in _PARTS if getattr(statement, one, None))


def _clauses(part: Any) -> Iterator[ClauseElement]:
    if isinstance(part, ClauseElement):
        yield part
    elif isinstance(part, Mapping):
        yield from _clauses(list(part.values()))
    elif isinstance(part, (list, tuple)):
        for one in part:
            yield from _clauses(one)


def is_ordered(statement: Any) -> bool:
    """Return whether the values of an UPDATE were given in an order."""
    return bool(getattr(statement, "_ordered_values", None))


class _Context:
    """What a default that looks at the other values of its row may ask for."""

    def __init__(self, row: Mapping[str, Any], column: Any) -> None:
        self.current_parameters = row
        self.current_column = column

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> Mapping[str, Any]:
        return self.current_parameters


def computed_default(default: Any, column: Column[Any], row: Mapping[str, Any]) -> Any:
    """Return what the Python function of a default gives for a row, keyed by column.

    Raises
    ------
    LookupError
        The function needs more than the values of the row.
    """
    try:
        return default.arg(_Context(row, column))
    except (AttributeError, KeyError) as error:
        what = f"the default of {column.table.fullname}.{column.name} needs its statement: {error}"
        raise LookupError(what) from error
