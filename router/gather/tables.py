"""Temporary tables that stand in for the permanent ones of their names, and shadow them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, Table, text
from sqlalchemy import exc as sa_exc
from sqlalchemy import types as sa_types
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.elements import quoted_name

from router.errors import CrossShardError
from router.gather.declared import collations
from router.gather.labels import LABEL
from router.gather.plan import Source

INDEXED_ROWS = 1_000
"""From this many rows on, the columns that a statement joins on get an index."""

_LABELS = {
    "postgresql": f"CAST('' AS TEXT) AS {LABEL}",
    "mysql": f"CAST('' AS CHAR(200)) AS {LABEL}",
}
"""How an empty column of shard names is made beside those of a table that is there."""


def create(
    connection: Connection, source: Source, host: str, origin: Connection, alike: bool
) -> None:
    """Create an empty temporary table for the rows of `source`.

    A table that the host has is the model: its types and collations are the real ones.
    `alike` says that the rows come from databases of the host's own kind, such as `origin`.
    """
    quote = connection.dialect.identifier_preparer
    kind = connection.dialect.name
    if host in source.homes and kind in _LABELS:
        parts = [_LABELS[kind] if n == LABEL else quote.quote(n) for n in source.columns]
        columns = ", ".join(parts) or "NULL AS nothing"
        permanent = quote.format_table(_permanent(source.table))
        empty = f"SELECT {columns} FROM {permanent} WHERE 1 = 0"
        sql = f"CREATE TEMPORARY TABLE {quote.quote(source.table.name)} AS {empty}"
        connection.exec_driver_sql(sql)
        return
    stand_in = described(source, connection.dialect, alike)
    if kind == "postgresql":
        _create_types(connection, stand_in)
    if alike:
        _declare(stand_in, collations(origin, _permanent(source.table)))
    connection.execute(CreateTable(stand_in))


def _declare(stand_in: Table, known: Mapping[str, str]) -> None:
    """Give columns the collations that their permanent table was created with."""
    for column in stand_in.columns:
        kind, collation = column.type, known.get(column.name.lower())
        if isinstance(kind, sa_types.TypeDecorator):
            kind = kind.impl_instance
        # What an enumeration is told apart by does not depend on it.
        if isinstance(kind, sa_types.String) and not isinstance(kind, sa_types.Enum):
            column.type = kind.adapt(type(kind), collation=collation or kind.collation)


def _permanent(found: Table) -> Table:
    return Table(found.name, MetaData(), schema=found.schema)


def described(source: Source, dialect: Dialect, alike: bool) -> Table:
    """Return the temporary table as the metadata describes it."""
    columns: list[Column[Any]] = []
    for name in source.columns:
        if name == LABEL:
            columns.append(Column(name, sa_types.String(200)))
            continue
        kind = next(one.type for one in source.table.columns if one.name == name)
        columns.append(Column(name, kind if alike else _generic(kind, dialect)))
    if not columns:
        columns.append(Column("nothing", sa_types.Integer()))
    return Table(source.table.name, MetaData(), *columns, prefixes=["TEMPORARY"])


def _generic(kind: Any, dialect: Dialect) -> Any:
    """Return the type for rows that come from another kind of database."""
    impl = kind.load_dialect_impl(dialect) if isinstance(kind, sa_types.TypeDecorator) else kind
    if isinstance(impl, sa_types.String) and not isinstance(impl, sa_types.Enum):
        # Collations have other names there, and lengths do not matter.
        return sa_types.Text()
    if isinstance(impl, sa_types.Enum):
        return sa_types.Text()
    try:
        return impl.as_generic()
    except NotImplementedError:
        return impl


def _create_types(connection: Connection, stand_in: Table) -> None:
    for one in stand_in.columns:
        kind = one.type
        if not isinstance(kind, sa_types.Enum) or not kind.native_enum or not kind.name:
            continue
        found = connection.execute(text("SELECT to_regtype(:name)"), {"name": kind.name}).scalar()
        if found is None:
            quote = connection.dialect.identifier_preparer.quote
            values = ", ".join("'" + value.replace("'", "''") + "'" for value in kind.enums)
            connection.exec_driver_sql(f"CREATE TYPE pg_temp.{quote(kind.name)} AS ENUM ({values})")


# -- after the rows are there --------------------------------------------------------------------


def finish(connection: Connection, source: Source, rows: int, joined: set[str]) -> None:
    """Give the filled table its primary key, indexes and statistics."""
    keys = [one.name for one in source.table.primary_key]
    if keys and not _add_primary_key(connection, source, keys):
        _index(connection, source, keys)
    if rows >= INDEXED_ROWS:
        for name in sorted(joined - set(keys[:1])):
            _index(connection, source, [name])
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {_quoted(connection, source)}")


def _add_primary_key(connection: Connection, source: Source, keys: list[str]) -> bool:
    """Add the primary key, unless two shards hold the same one.

    Databases tell by it that a column depends on another, which GROUP BY may need.
    """
    if connection.dialect.name == "sqlite":
        return False
    columns = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in keys)
    sql = f"ALTER TABLE {_quoted(connection, source)} ADD PRIMARY KEY ({columns})"
    return _try(connection, sql)


def _try(connection: Connection, sql: str) -> bool:
    # Only on PostgreSQL does a failed statement spoil the transaction; on MySQL the
    # statements tried here would end the savepoint.
    spoils = connection.dialect.name == "postgresql"
    try:
        with connection.begin_nested() if spoils else nullcontext():
            connection.exec_driver_sql(sql)
    except sa_exc.DBAPIError:
        return False
    return True


def _index(connection: Connection, source: Source, names: list[str]) -> None:
    quote = connection.dialect.identifier_preparer.quote
    columns = ", ".join(quote(name) for name in names)
    label = quote(quoted_name(f"ix_router_{source.table.name}_{'_'.join(names)}"[:60], True))
    if connection.dialect.name == "sqlite":
        label = f"temp.{label}"
    # A type that has no order cannot be indexed, and need not be.
    _try(connection, f"CREATE INDEX {label} ON {_quoted(connection, source)} ({columns})")


def _quoted(connection: Connection, source: Source) -> str:
    return connection.dialect.identifier_preparer.quote(source.table.name)


# -- afterwards ----------------------------------------------------------------------------------


def drop(connection: Connection, sources: tuple[Source, ...]) -> None:
    """Drop the temporary tables, and never a permanent one."""
    kinds = {"postgresql": ("TABLE", "pg_temp."), "sqlite": ("TABLE", "temp.")}
    kind, schema = kinds.get(connection.dialect.name, ("TEMPORARY TABLE", ""))
    for source in sources:
        connection.exec_driver_sql(f"DROP {kind} IF EXISTS {schema}{_quoted(connection, source)}")


def check_reopenable(engine: Engine, mentions: Mapping[str, int]) -> None:
    """Raise where the database cannot name a temporary table twice in one statement."""
    twice = [name for name, times in mentions.items() if times > 1]
    if twice and engine.dialect.name == "mysql" and not getattr(engine.dialect, "is_mariadb", True):
        what = f"MySQL cannot read a temporary table twice in one statement: {min(twice)}"
        raise CrossShardError("R302", what)
