"""Values of which a statement has one, though it is executed in several places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Delete, Insert, select, type_coerce
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from router.errors import CrossShardError
from router.hooks.dml import (
    computed_default,
    functions_of,
    given_rows,
    is_ordered,
    replaced,
    with_rows,
)
from router.hooks.mappers import subject_of, tables_of
from router.hooks.statements import attribute_names, given_values, plain_table
from router.route.defaults import sql_defaults
from router.route.rows import is_given
from router.route.target import Destination
from router.route.writes import CLOCKS
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing

Row = Mapping[Any, Any]


class Constants:
    """Computes defaults and the time once, and gives them to all parts of a write."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def bound(self, execution: Execution, place: Destination) -> Execution:
        """Return `execution` with values instead of what would differ from place to place."""
        statement, params = execution.statement, execution.params
        if isinstance(statement, Insert):
            statement, params = self._with_defaults(statement, params)
        elif not isinstance(statement, Delete):
            statement = self._with_renewals(statement, params)
        found = functions_of(statement, CLOCKS)
        if found:
            values = {_written(one): self._ask(one, place) for one in found}
            statement = replaced(statement, values, _written)
        return execution.of(statement, params)

    def _ask(self, function: Any, place: Destination) -> Any:
        connection = self._routing.session._connection_to(place.database)
        return connection.scalar(select(type_coerce(function, NullType())))

    # -- INSERT ----------------------------------------------------------------------------

    def _with_defaults(self, statement: Any, params: Any) -> tuple[Any, Any]:
        """Evaluate functions that are defaults in the order of the rows."""
        mapper = subject_of(statement)
        tables = tables_of(mapper) if mapper is not None else [plain_table(statement.table)]
        columns = [column for table in tables for column in table.columns if column.default]
        computed = [column for column in columns if _is_evaluated(column.default)]
        timed = [column for column in columns if _is_timed(column.default)]
        if not computed and not timed:
            return statement, params
        if isinstance(params, (list, tuple)):
            fixed = {name for row in given_values(statement) for name in row}
            known = fixed.union(*(row.keys() for row in params[:1]))
            times = _times(timed, mapper, known)
            statement = statement.values(times) if times else statement
            return statement, [_completed(row, computed, mapper, fixed) for row in params]
        rows = [row for row in given_rows(statement) if isinstance(row, Mapping)]
        rows = rows or list(given_values(statement))
        rows = [{**row, **_times(timed, mapper, row)} for row in rows]
        return with_rows(statement, [_completed(row, computed, mapper) for row in rows]), params

    # -- UPDATE ----------------------------------------------------------------------------

    def _with_renewals(self, statement: Any, params: Any) -> Any:
        """Evaluate what is renewed by every UPDATE once."""
        if isinstance(params, (list, tuple)):
            return statement
        mapper = subject_of(statement)
        given = {name for row in given_values(statement) for name in row} | set(params or ())
        fresh: dict[Any, Any] = {}
        for column in plain_table(statement.table).columns:
            default: Any = column.onupdate
            if default is None or is_given(column, given, mapper):
                continue
            if _is_evaluated(default):
                fresh[column] = _computed(default, column, {})
            elif _is_timed(default):
                fresh[column] = default.arg
        if fresh and is_ordered(statement):
            what = "an UPDATE with ordered values, in which others are renewed"
            raise CrossShardError("R305", what)
        return statement.values(fresh) if fresh else statement


def _completed(
    row: Row, columns: Sequence[Column[Any]], mapper: Any, fixed: set[Any] | None = None
) -> Row:
    done = dict(row)
    for column in columns:
        if not is_given(column, [*done, *(fixed or ())], mapper):
            values = _by_column(done, column, mapper)
            done[attribute_names(mapper, column)[0]] = _computed(column.default, column, values)
    return done


def _times(columns: Sequence[Column[Any]], mapper: Any, given: Any) -> dict[str, Any]:
    """Return the times that a row gets which it does not give."""
    missing = (column for column in columns if not is_given(column, given, mapper))
    sql = ((one, clause) for one in missing for clause in sql_defaults([one.default]))
    return {attribute_names(mapper, one)[0]: clause for one, clause in sql}


def _is_timed(default: Any) -> bool:
    return any(map(clocks_in, sql_defaults([default])))


def _by_column(row: Row, column: Column[Any], mapper: Any) -> dict[str, Any]:
    """Return the values of a row by the names of its columns, as defaults see them."""
    found = {}
    for one in column.table.columns:
        names = [name for name in (*attribute_names(mapper, one), one) if name in row]
        if names:
            found[one.key] = row[names[0]]
    return found


def _computed(default: Any, column: Column[Any], row: Mapping[str, Any]) -> Any:
    try:
        return computed_default(default, column, row)
    except LookupError as error:
        raise CrossShardError("R305", str(error.args[0])) from error


def clocks_in(clause: Any) -> bool:
    """Return whether an expression asks for the time."""
    return any(
        isinstance(part, FunctionElement) and getattr(part, "name", "").lower() in CLOCKS
        for part in visitors.iterate(clause)
    )


def _is_evaluated(default: Any) -> bool:
    return bool(default.is_callable)


def _written(function: ClauseElement) -> str:
    return str(function.compile(compile_kwargs={"literal_binds": True})).lower()
