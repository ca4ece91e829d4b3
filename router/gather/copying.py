"""Copies rows from a shard to a temporary table, by the fastest way both ends know."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, literal, literal_column, select, type_coerce
from sqlalchemy import exc as sa_exc
from sqlalchemy import types as sa_types
from sqlalchemy.sql import Select

from router.gather.labels import LABEL
from router.gather.plan import Source
from router.gather.tables import described

BATCH = 1_000
"""Rows that are held at a time."""


def copy_rows(
    origin: Connection, target: Connection, source: Source, place: str, limit: int
) -> int:
    """Copy the rows of `source` in `origin`, `limit` of them at most, and return how many.

    `place` is the name of the shard, for the column that says it.
    """
    query = rows_to_copy(source, place, limit)
    if origin.dialect.name != target.dialect.name:
        return _copy_values(origin, target, source, query)
    if _speaks_copy(origin) and _speaks_copy(target):
        rendered = _rendered(origin, query)
        if rendered is not None:
            return _copy_binary(origin, target, source, rendered)
    kind = origin.dialect.name
    raw = query.with_only_columns(*(_raw(one, kind) for one in query.selected_columns))
    return _copy_raw(origin, target, source, raw)


def rows_to_copy(source: Source, place: str, limit: int) -> Select[Any]:
    """Return the SELECT of the rows that are copied from one place."""
    named: dict[str, Any] = {one.name: one for one in source.table.columns}
    named[LABEL] = literal(place).label(LABEL)
    columns = [named[name] for name in source.columns] or [literal(1).label("nothing")]
    query = select(*columns).select_from(source.table).limit(limit)
    return query if source.condition is None else query.where(source.condition)


def _raw(column: Any, dialect: str) -> Any:
    """Return the column as the driver gives it."""
    kind = column.type
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


def _copy_binary(origin: Connection, target: Connection, source: Source, query: str) -> int:
    quote = target.dialect.identifier_preparer.quote
    columns = ", ".join(quote(name) for name in source.columns) or "nothing"
    into = f"COPY {quote(source.table.name)} ({columns}) FROM STDIN (FORMAT BINARY)"
    reader: Any = origin.connection.cursor()
    writer: Any = target.connection.cursor()
    try:
        # With parameters, even none, the doubled percent signs of the compiler are single.
        with (
            reader.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", ()) as rows,
            writer.copy(into.replace("%", "%%"), ()) as sink,
        ):
            for data in rows:
                sink.write(data)
        return int(writer.rowcount)
    finally:
        reader.close()
        writer.close()


# -- any two databases of one kind -------------------------------------------------------------


def _copy_raw(origin: Connection, target: Connection, source: Source, query: Select[Any]) -> int:
    copied = 0
    with origin.execute(query, execution_options={"stream_results": True}) as result:
        sql = _insert_sql(target, source)
        for rows in result.partitions(BATCH):
            target.exec_driver_sql(sql, [tuple(row) for row in rows])
            copied += len(rows)
    return copied


def _insert_sql(target: Connection, source: Source) -> str:
    quote = target.dialect.identifier_preparer.quote
    names = source.columns or ("nothing",)
    columns = ", ".join(quote(name) for name in names)
    mark = {"qmark": "?"}.get(target.dialect.paramstyle, "%s")
    marks = ", ".join([mark] * len(names))
    return f"INSERT INTO {quote(source.table.name)} ({columns}) VALUES ({marks})"


# -- databases of different kinds --------------------------------------------------------------


def _copy_values(origin: Connection, target: Connection, source: Source, query: Select[Any]) -> int:
    stand_in = described(source, target.dialect, alike=False)
    copied = 0
    with origin.execute(query, execution_options={"stream_results": True}) as result:
        for rows in result.partitions(BATCH):
            names = [one.name for one in stand_in.columns]
            target.execute(insert(stand_in), [dict(zip(names, row, strict=True)) for row in rows])
            copied += len(rows)
    return copied
