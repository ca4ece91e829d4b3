"""How a database compares text, as far as a merge outside of it must know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from sqlalchemy import Connection, Engine, bindparam, text

from router.rewrite.terms import TextOrder

_DATABASE = text(
    "SELECT to_jsonb(d) ->> 'datlocprovider', d.datcollate FROM pg_catalog.pg_database d "
    "WHERE d.datname = current_database()"
)
_COLUMNS = text(
    "SELECT c.collname, c.collisdeterministic, n.nspname FROM pg_catalog.pg_attribute a "
    "JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace "
    "WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND c.collname <> 'default'"
)
_SQLITE = text("SELECT sql FROM sqlite_master WHERE name IN :names AND type IN ('table', 'view')")
_PLAIN = ("C", "POSIX", "C.UTF-8", "C.utf8", "ucs_basic")


class Collations:
    """Asks each database once; safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[Engine, str], TextOrder | None] = {}

    def order(
        self, engine: Engine, tables: Iterable[str], connect: Callable[[], Connection]
    ) -> TextOrder | None:
        """Return how texts in `tables` are compared; None if equal texts may look different.

        `connect` is called only where this is not known yet.
        """
        found = [self._of(engine, name, connect) for name in ("", *tables)]
        if None in found:
            return None
        return TextOrder.OTHER if TextOrder.OTHER in found else TextOrder.CODE_POINTS

    def _of(self, engine: Engine, name: str, connect: Callable[[], Connection]) -> TextOrder | None:
        if (engine, name) not in self._known:
            self._known[engine, name] = _ASK[engine.dialect.name](connect(), name)
        return self._known[engine, name]


def _postgresql(connection: Connection, name: str) -> TextOrder | None:
    if not name:
        provider, collation = connection.execute(_DATABASE).one()
        # The builtin provider knows no order but that of code points.
        plain = provider == "b" or (provider in (None, "c") and collation in _PLAIN)
        return TextOrder.CODE_POINTS if plain else TextOrder.OTHER
    quote = connection.dialect.identifier_preparer.quote
    quoted = ".".join(quote(part) for part in name.split("."))
    collations = connection.execute(_COLUMNS, {"name": quoted}).all()
    if not all(deterministic for _, deterministic, _ in collations):
        return None
    plain = all(found in _PLAIN for found, _, _ in collations)
    return TextOrder.CODE_POINTS if plain else TextOrder.OTHER


def _sqlite(connection: Connection, name: str) -> TextOrder | None:
    query = _SQLITE.bindparams(bindparam("names", expanding=True))
    for sql in connection.execute(query, {"names": [name]}).scalars():
        collations = re.findall(r"\bcollate\s+[\"'`\[]?(\w+)", sql or "", re.IGNORECASE)
        if any(found.upper() != "BINARY" for found in collations):
            return TextOrder.OTHER
    return TextOrder.CODE_POINTS


def _mysql(connection: Connection, name: str) -> TextOrder | None:
    del connection, name
    return TextOrder.OTHER


_ASK = {"postgresql": _postgresql, "sqlite": _sqlite, "mysql": _mysql, "mariadb": _mysql}
