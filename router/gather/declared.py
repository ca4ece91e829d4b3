"""Collations that only the tables of a database tell of, and not the metadata."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, text

_DDL = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(:name)")
_NOISE = re.compile(r"/\*.*?\*/|--[^\n]*|'(?:[^']|'')*'", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")
_NAME = re.compile(r"\s*(?:\"([^\"]+)\"|`([^`]+)`|\[([^\]]+)\]|(\w+))")
_COLLATE = re.compile(r"\bcollate\s+[\"'`\[]?(\w+)", re.IGNORECASE)


_POSTGRESQL = text(
    "SELECT a.attname, c.collname FROM pg_catalog.pg_attribute a "
    "JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation "
    "WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND c.collname <> 'default'"
)
_MYSQL = text(
    "SELECT column_name, collation_name FROM information_schema.columns WHERE "
    "table_schema = coalesce(:schema, database()) AND table_name = :name "
    "AND collation_name IS NOT NULL"
)


def collations(connection: Connection, table: Table) -> Mapping[str, str]:
    """Return the collations that a table's columns were created with, by lower-case names."""
    return _READ[connection.dialect.name](connection, table)


def _postgresql(connection: Connection, table: Table) -> Mapping[str, str]:
    name = connection.dialect.identifier_preparer.format_table(table)
    return _by_name(connection.execute(_POSTGRESQL, {"name": name}))


def _mysql(connection: Connection, table: Table) -> Mapping[str, str]:
    return _by_name(connection.execute(_MYSQL, {"name": table.name, "schema": table.schema}))


def _by_name(rows: Iterable[Any]) -> Mapping[str, str]:
    return {str(name).lower(): str(collation) for name, collation in rows}


def _sqlite(connection: Connection, table: Table) -> Mapping[str, str]:
    sql = _NOISE.sub("", connection.execute(_DDL, {"name": table.name}).scalar() or "")
    body = sql[sql.find("(") + 1 : sql.rfind(")")]
    # What stands in parentheses, such as a CHECK, says nothing of the column itself.
    while _INNERMOST.search(body):
        body = _INNERMOST.sub("", body)
    found = {}
    for definition in body.split(","):
        name, collation = _NAME.match(definition), _COLLATE.search(definition)
        if name is not None and collation is not None:
            found[str(name[name.lastindex or 0]).lower()] = collation[1]
    return found


_READ: Mapping[str, Callable[[Connection, Table], Mapping[str, str]]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
    "sqlite": _sqlite,
}
