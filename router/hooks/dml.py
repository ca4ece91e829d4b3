"""Parts of INSERT, UPDATE and DELETE statements that are put together anew.

Leans on `Insert._multi_values` and `._generate`, on the `_values` and `_ordered_values` of an
UPDATE, on `BulkUDCompileState._eval_condition_from_statement`, which
(`_BulkUDCompileState` from 2.1 on) decides whether the ORM can evaluate criteria in Python, and on what `ColumnDefault` calls
its functions with.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Column, type_coerce
from sqlalchemy.orm import bulk_persistence
from sqlalchemy.orm.evaluator import UnevaluatableError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import UserDefinedType

_CompileState: Any = getattr(bulk_persistence, "_BulkUDCompileState", None) or getattr(  # noqa: B009
    bulk_persistence, "BulkUDCompileState"
)


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


def evaluates(statement: Any, mapper: Any) -> bool:
    """Return whether the ORM can evaluate the criteria of an UPDATE or DELETE in Python."""
    options: Any = SimpleNamespace(_subject_mapper=mapper)
    try:
        _CompileState._eval_condition_from_statement(options, statement)
    except UnevaluatableError:
        return False
    return True


def functions_of(clause: Any, names: frozenset[str]) -> list[FunctionElement[Any]]:
    """Return the calls, anywhere in a clause, of functions that have one of `names`."""
    return [
        part
        for part in visitors.iterate(clause)
        if isinstance(part, FunctionElement) and str(getattr(part, "name", "")).lower() in names
    ]


def replaced(clause: Any, values: Mapping[str, Any], name: Callable[[Any], str]) -> Any:
    """Return a copy of `clause` in which function calls are values; `name` tells which."""

    def replace(part: Any) -> Any:
        if not isinstance(part, FunctionElement) or name(part) not in values:
            return None
        # Wrapped, so that the ORM evaluates it no more than it would the function.
        return type_coerce(BindParameter(None, values[name(part)], Raw(), unique=True), Raw())

    traverse: Any = visitors.replacement_traverse
    return traverse(clause, {}, lambda part, **_: replace(part))


def is_ordered(statement: Any) -> bool:
    """Return whether the values of an UPDATE were given in an order."""
    return bool(getattr(statement, "_ordered_values", None))


class _Context:
    """What a default that looks at the other values of its row may ask for."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.current_parameters = row

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
        return default.arg(_Context(row))
    except (AttributeError, KeyError) as error:
        what = f"the default of {column.table.fullname}.{column.name} needs its statement: {error}"
        raise LookupError(what) from error
