"""The map against SQLAlchemy metadata: do the tables have the keys that the map names?

This needs no database.  What only a database can tell, such as the collation of a text
key, is left to ``router check``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Column, MetaData, Table

from router.errors import Problem
from router.shardmap.columns import UnsupportedKeyTypeError, key_type
from router.shardmap.findings import shown, suggestion
from router.shardmap.functions.building import TypedFunction
from router.shardmap.keytypes import KeyKind, KeyType, Zone
from router.shardmap.model import ShardedKeyspace, ShardMap
from router.shardmap.uniqueness import unique_problems


@dataclass(frozen=True, slots=True)
class _Risk:
    """A column type that a dialect does not keep exactly."""

    dialects: frozenset[str]
    applies: Callable[[KeyType, Any], bool]
    reason: str


_MYSQL = frozenset({"mysql", "mariadb"})

_RISKS = (
    _Risk(
        frozenset({"sqlite"}),
        lambda key, _: key.kind is KeyKind.DECIMAL,
        "SQLite keeps decimals as floating point numbers",
    ),
    _Risk(
        _MYSQL,
        lambda key, _: key.kind is KeyKind.DECIMAL and key.places is None,
        "MySQL rounds decimals to whole numbers unless the type has a scale: Numeric(12, 2)",
    ),
    _Risk(
        _MYSQL,
        lambda key, _: key.kind is KeyKind.TIMESTAMP and key.places is None,
        "MySQL rounds to whole seconds unless the type says otherwise: mysql.DATETIME(fsp=6)",
    ),
    _Risk(
        _MYSQL,
        lambda _, sa_type: sa_type.__visit_name__ == "TIMESTAMP",
        "MySQL converts TIMESTAMP by the time zone of the connection; use mysql.DATETIME",
    ),
    _Risk(
        _MYSQL | {"sqlite"},
        lambda key, _: key.zone is Zone.AWARE,
        "only PostgreSQL keeps timestamps with a time zone",
    ),
)


def check_metadata(shard_map: ShardMap, metadata: Mapping[str, MetaData]) -> tuple[Problem, ...]:
    """Return everything in which the map and the tables of `metadata` disagree.

    A table of the map that the metadata does not have is fine, since it may belong to
    another program; it is a problem only if it looks like a misspelt one.

    Parameters
    ----------
    metadata:
        What was given to ``Router.from_yaml(metadata=...)``, by name.
    """
    tables: dict[str, list[Table]] = {}
    for each in metadata.values():
        for table in each.tables.values():
            tables.setdefault(_name(table), []).append(table)
    problems = [*_missing_metadata(shard_map, metadata), *_misspelt(shard_map, tables)]
    for keyspace in shard_map.keyspaces.values():
        if isinstance(keyspace, ShardedKeyspace):
            problems += _keys(shard_map, keyspace, tables)
    for entry in shard_map.unique.values():
        for table in tables.get(entry.table, ()):
            problems += unique_problems(entry, table, _shard_key(shard_map, entry.table))
    return tuple(problems)


def _shard_key(shard_map: ShardMap, table: str) -> tuple[str, ...]:
    found = (one for one in shard_map.keyspaces.values() if isinstance(one, ShardedKeyspace))
    return next((one.tables[table] for one in found if table in one.tables), ())


def _name(table: Table) -> str:
    return f"{table.schema}.{table.name}" if table.schema else table.name


def _missing_metadata(shard_map: ShardMap, metadata: Mapping[str, MetaData]) -> Iterator[Problem]:
    for name in shard_map.binds.metadata:
        if name not in metadata:
            what = f"no metadata was given as {shown(name)}{suggestion(name, metadata)}"
            yield Problem("R124", what, shard_map.binds.where.get(f"metadata.{name}", ""))


def _misspelt(shard_map: ShardMap, tables: Mapping[str, list[Table]]) -> Iterator[Problem]:
    listed = dict(_listed(shard_map))
    unlisted = [name for name in tables if name not in listed]
    for name, where in listed.items():
        if name not in tables and get_close_matches(name, unlisted, n=1, cutoff=0.8):
            what = f"the metadata has no table {shown(name)}{suggestion(name, unlisted)}"
            yield Problem("R125", what, where)


def _listed(shard_map: ShardMap) -> Iterator[tuple[str, str]]:
    for name in shard_map.binds.tables:
        yield name, shard_map.binds.where.get(f"tables.{name}", "")
    for keyspace in shard_map.keyspaces.values():
        if isinstance(keyspace, ShardedKeyspace):
            for name in (*keyspace.tables, *keyspace.reference_tables):
                yield name, keyspace.table_where.get(name, "")


def _keys(
    shard_map: ShardMap, keyspace: ShardedKeyspace, tables: Mapping[str, list[Table]]
) -> Iterator[Problem]:
    """Check the shard key columns of a keyspace, each alone and then together."""
    known: dict[str, tuple[KeyType, ...]] = {}
    dialects = {shard_map.databases[d].url.get_backend_name() for d in keyspace.shards.values()}
    for name, columns in keyspace.tables.items():
        where = keyspace.table_where.get(name, "")
        for table in tables.get(name, ()):
            types = []
            for column in columns:
                found = _key(table, column, dialects)
                if isinstance(found, KeyType):
                    types.append(found)
                else:
                    yield Problem(found.id, found.what, where)
            if len(types) == len(columns):
                known[name] = tuple(types)
    yield from _alike(keyspace, known)


def _key(table: Table, column: str, dialects: set[str]) -> KeyType | Problem:
    names = [each.name for each in table.columns]
    if column not in names:
        what = f"the table {shown(_name(table))} has no column {shown(column)}"
        return Problem("R121", what + suggestion(column, names))
    found: Column[Any] = next(each for each in table.columns if each.name == column)
    label = f"{shown(_name(table))}, column {shown(column)}"
    try:
        key = key_type(found.type)
    except UnsupportedKeyTypeError as error:
        return Problem("R122", f"{label}: {error}")
    for risk in _RISKS:
        if risk.dialects & dialects and risk.applies(key, found.type):
            return Problem("R122", f"{label}: {risk.reason}")
    return key


def _alike(
    keyspace: ShardedKeyspace, known: Mapping[str, tuple[KeyType, ...]]
) -> Iterator[Problem]:
    """Compare every table with the first one, and with what the function takes."""
    function = keyspace.function
    first = next(iter(known), "")
    for name, types in known.items():
        where = keyspace.table_where.get(name, "")
        if [t.family for t in types] != [t.family for t in known[first]]:
            what = f"the key of {shown(name)} is {_families(types)}"
            what += f", but the key of {shown(first)} is {_families(known[first])}"
            yield Problem("R123", what, where)
        elif isinstance(function, TypedFunction) and (reason := function.why_not(types)):
            what = f"the key of {shown(name)} is {_families(types)}: {reason}"
            yield Problem("R119", what, where)


def _families(types: tuple[KeyType, ...]) -> str:
    return " and ".join(t.family for t in types)
