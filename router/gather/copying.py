"""Copies rows from a shard to a temporary table, by the fastest way both ends know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    cast,
    insert,
    literal,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy import types as sa_types
from sqlalchemy.sql import Select

from router.gather.labels import LABEL
from router.gather.plan import Source
from router.gather.tables import described
from router.hooks.driver import call_in_lane, is_beside_others

BATCH = 1_000
"""Rows that are held at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """Rows that a shard has begun to send."""

    drain: Callable[[Connection], int]
    """Copies them to the temporary table of a connection, and returns how many there were."""
    close: Callable[[], object]


def open_rows(
    origin: Connection, target: Connection, source: Source, place: str, limit: int
) -> Opened:
    """Let `origin` begin to send the rows of `source`, `limit` of them at most.

    `place` is the name of the shard, for the column that says it.
    """
    query = rows_to_copy(source, place, limit)
    if origin.dialect.name != target.dialect.name:
        return _values(origin, target, source, query)
    if _speaks_copy(origin) and _speaks_copy(target) and not is_beside_others():
        rendered = _rendered(origin, query)
        if rendered is not None:
            return _binary(origin, source, rendered)
    kind = origin.dialect.name
    raw = query.with_only_columns(*(_raw(one, kind) for one in query.selected_columns))
    return _as_sent(origin, source, raw)


def rows_to_copy(source: Source, place: str, limit: int) -> Select[Any]:
    """Return the SELECT of the rows that are copied from one place."""
    named: dict[str, Any] = {one.name: one for one in source.table.columns}
    named[LABEL] = literal(place).label(LABEL)
    columns = [named[name] for name in source.columns] or [literal(1).label("nothing")]
    query = select(*columns).select_from(source.table)
    if source.top is not None:
        query = query.order_by(*source.top.order)
        limit = min(limit, source.top.rows)
    query = query.limit(limit)
    return query if source.condition is None else query.where(source.condition)


def _raw(column: Any, dialect: str) -> Any:
    """Return the column as the driver gives it."""
    kind = column.type
    if dialect == "postgresql":
        # The text form is exact for every type, and every type reads its own.
        return cast(column, sa_types.Text()).label(column.name)
    if dialect == "mysql" and isinstance(kind, sa_types.Float):
        # A FLOAT is shown with six digits only; as a DOUBLE it is shown exactly.
        return (type_coerce(column, sa_types.NullType()) + literal_column("0e0")).label(column.name)
    return type_coerce(column, sa_types.NullType()).label(column.name)


# -- PostgreSQL to PostgreSQL ------------------------------------------------------------------


def _speaks_copy(connection: Connection) -> bool:
    return connection.dialect.driver == "psycopg" and not connection.dialect.is_async


def _rendered(connection: Connection, query: Select[Any]) -> str | None:
    """Return the SQL text with its values in it, None if there is one that has no text form."""
    try:
        options = {"literal_binds": True}
        return str(query.compile(dialect=connection.dialect, compile_kwargs=options))
    except (sa_exc.CompileError, NotImplementedError):
        return None


def _bare(sql: str) -> str:
    # The compiler doubles every percent sign, for a driver that fills in parameters. Here there
    # are none, and without any the driver sends the text as it is.
    return sql.replace("%%", "%")


def _binary(origin: Connection, source: Source, query: str) -> Opened:
    reader: Any = origin.connection.cursor()
    copy = reader.copy(_bare(f"COPY ({query}) TO STDOUT (FORMAT BINARY)"))
    rows = call_in_lane(origin, "COPY", copy.__enter__)

    def drain(target: Connection) -> int:
        quote = target.dialect.identifier_preparer.quote
        columns = ", ".join(quote(name) for name in source.columns) or "nothing"
        into = f"COPY {quote(source.table.name)} ({columns}) FROM STDIN (FORMAT BINARY)"
        writer: Any = target.connection.cursor()
        try:
            with writer.copy(_bare(into)) as sink:
                for data in rows:
                    sink.write(data)
            return int(writer.rowcount)
        finally:
            writer.close()

    def close() -> None:
        copy.__exit__(None, None, None)
        reader.close()

    return Opened(drain, close)


# -- any two databases of one kind -------------------------------------------------------------


def _as_sent(origin: Connection, source: Source, query: Select[Any]) -> Opened:
    result = _executed(origin, query)

    def drain(target: Connection) -> int:
        sql, copied = _insert_sql(target, source), 0
        for rows in result.partitions(BATCH):
            target.exec_driver_sql(sql, [tuple(row) for row in rows])
            copied += len(rows)
        return copied

    return Opened(drain, result.close)


def _executed(origin: Connection, query: Select[Any]) -> CursorResult[Any]:
    """Return the rows of a query: as they come, if nothing else is sent to `origin` meanwhile.

    Where several calls of a session go on, each may gather from the same connections; and on
    MySQL and MariaDB, a statement ends what a connection was about to send.
    """
    return origin.execute(query, execution_options={"stream_results": not is_beside_others()})


def _insert_sql(target: Connection, source: Source) -> str:
    quote = target.dialect.identifier_preparer.quote
    names = source.columns or ("nothing",)
    columns = ", ".join(quote(name) for name in names)
    mark = {"qmark": "?"}.get(target.dialect.paramstyle, "%s")
    marks = ", ".join([mark] * len(names))
    return f"INSERT INTO {quote(source.table.name)} ({columns}) VALUES ({marks})"


# -- databases of different kinds --------------------------------------------------------------


def _values(origin: Connection, target: Connection, source: Source, query: Select[Any]) -> Opened:
    stand_in = described(source, target.dialect, alike=False)
    names = [one.name for one in stand_in.columns]
    result = _executed(origin, query)

    def drain(target: Connection) -> int:
        copied = 0
        for rows in result.partitions(BATCH):
            target.execute(insert(stand_in), [dict(zip(names, row, strict=True)) for row in rows])
            copied += len(rows)
        return copied

    return Opened(drain, result.close)
