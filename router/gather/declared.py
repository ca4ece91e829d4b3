"""Collations that only the tables of a SQLite database tell of, and not the metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import Connection, text

_DDL = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(:name)")
_NOISE = re.compile(r"/\*.*?\*/|--[^\n]*|'(?:[^']|'')*'", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")
_NAME = re.compile(r"\s*(?:\"([^\"]+)\"|`([^`]+)`|\[([^\]]+)\]|(\w+))")
_COLLATE = re.compile(r"\bcollate\s+[\"'`\[]?(\w+)", re.IGNORECASE)


def collations(connection: Connection, table: str) -> Mapping[str, str]:
    """Return the collations that a table's columns were created with, by lower-case names."""
    sql = _NOISE.sub("", connection.execute(_DDL, {"name": table}).scalar() or "")
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
