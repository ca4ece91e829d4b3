"""Every difference between the map and the databases, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, inspect, select, text
from sqlalchemy import exc as sa_exc

from router.check_commits import commit_findings, map_findings
from router.check_replicas import replica_findings
from router.check_unique import unique_findings
from router.errors import Problem, RouterError
from router.route.binds import ReferenceTable, ShardedTable
from router.schema import databases_of
from router.session.wiring import Wiring
from router.shardmap.keytypes import KeyKind
from router.shardmap.model import ShardedKeyspace
from router.transaction.recovery import first_line

# Settings that change answers, by dialect: a name and the query for it.
_OF_MYSQL = {
    "sql_mode": "SELECT @@sql_mode",
    "time_zone": "SELECT @@time_zone",
    "version": "SELECT @@version",
    "collation": "SELECT @@collation_database",
    "div_precision_increment": "SELECT @@div_precision_increment",
    "group_concat_max_len": "SELECT @@group_concat_max_len",
}
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "postgresql": {
        "TimeZone": "SHOW TimeZone",
        "DateStyle": "SHOW DateStyle",
        "IntervalStyle": "SHOW IntervalStyle",
        "search_path": "SHOW search_path",
        "server_version": "SHOW server_version",
        "collation": "SELECT datcollate FROM pg_database WHERE datname = current_database()",
        "ctype": "SELECT datctype FROM pg_database WHERE datname = current_database()",
        "encoding": "SHOW server_encoding",
    },
    "mysql": _OF_MYSQL,
    "mariadb": _OF_MYSQL,
    "sqlite": {},
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found out about one database."""

    problems: tuple[Problem, ...]
    settings: Mapping[str, str]
    counts: Mapping[str, int]
    reachable: bool = True


def check(wiring: Wiring) -> tuple[Problem, ...]:
    """Return everything that is wrong, in the order of the map; empty if nothing is.

    The databases are looked at side by side; one that cannot be reached is one finding.
    """
    names = list(wiring.shard_map.databases)
    with ThreadPoolExecutor(max_workers=min(16, len(names) or 1)) as pool:
        seen = dict(zip(names, pool.map(lambda name: _look(name, wiring), names), strict=True))
    found = [problem for name in names for problem in seen[name].problems]
    found += _differing_settings(wiring, seen)
    found += _differing_copies(seen)
    found += map_findings(wiring)
    found += unique_findings(wiring)
    found += replica_findings(wiring)
    return tuple(found)


def _look(name: str, wiring: Wiring) -> _Seen:
    try:
        with wiring.engines[name].connect() as connection:
            return _look_at(name, connection, wiring)
    except RouterError as error:
        problem = Problem(error.id, error.what, error.where, error.fix)
    except sa_exc.SQLAlchemyError as error:
        what = f"database {name} cannot be examined: {first_line(error)}"
        problem = Problem("R501", what, wiring.shard_map.databases[name].where)
    return _Seen((problem,), {}, {}, reachable=False)


def _look_at(name: str, connection: Connection, wiring: Wiring) -> _Seen:
    problems: list[Problem] = []
    counts: dict[str, int] = {}
    for table in _tables(wiring):
        if name not in databases_of(table, wiring):
            continue
        missing = list(_missing(name, table, connection, wiring))
        problems += missing
        if missing:
            continue
        binding = wiring.binds.of_table(table)
        if isinstance(binding, ReferenceTable):
            counts[table.fullname] = connection.scalar(select(func.count()).select_from(table)) or 0
        if isinstance(binding, ShardedTable):
            problems += _collations(name, binding, connection)
    problems += commit_findings(name, connection, wiring)
    queries = _SETTINGS.get(connection.dialect.name, {})
    settings = {key: str(connection.scalar(text(sql))) for key, sql in queries.items()}
    return _Seen(tuple(problems), settings, counts)


def _tables(wiring: Wiring) -> Iterator[Table]:
    for metadata in dict.fromkeys(wiring.metadata.values()):
        yield from metadata.sorted_tables


# -- one database ------------------------------------------------------------------------


def _missing(name: str, table: Table, connection: Connection, wiring: Wiring) -> Iterator[Problem]:
    inspector = inspect(connection)
    where = wiring.shard_map.databases[name].where
    if not inspector.has_table(table.name, schema=table.schema):
        yield Problem("R701", f"database {name} has no table {table.fullname}", where)
        return
    there = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    for column in table.columns:
        if column.name not in there:
            what = f"table {table.fullname} of database {name} has no column {column.name}"
            yield Problem("R702", what, where)


def _collations(name: str, binding: ShardedTable, connection: Connection) -> Iterator[Problem]:
    """Yield text keys whose unequal strings compare equal: they would hash apart."""
    find = _COLLATION.get(connection.dialect.name)
    if find is None:
        return
    for column, kind in zip(binding.key, binding.types, strict=True):
        if kind.kind is not KeyKind.TEXT:
            continue
        collation = find(connection, binding.table, column)
        if collation is not None:
            table = binding.table.fullname
            what = (
                f"the shard key {table}.{column} of database {name} has collation {collation}, "
                "in which unequal strings compare equal"
            )
            yield Problem("R703", what, binding.keyspace.table_where.get(table, ""))


def _postgresql_collation(connection: Connection, table: Table, column: str) -> str | None:
    sql = text(
        "SELECT c.collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation "
        "WHERE a.attrelid = to_regclass(:table) AND a.attname = :column "
        "AND NOT c.collisdeterministic"
    )
    name = connection.dialect.identifier_preparer.format_table(table)
    found: str | None = connection.scalar(sql, {"table": name, "column": column})
    return found


def _mysql_collation(connection: Connection, table: Table, column: str) -> str | None:
    # Collations that pad ignore trailing blanks, `utf8mb4_bin` among them.
    sql = text(
        "SELECT collation_name FROM information_schema.columns WHERE table_name = :table "
        "AND table_schema = COALESCE(:schema, DATABASE()) AND column_name = :column"
    )
    given = {"table": table.name, "schema": table.schema, "column": column}
    found: str | None = connection.scalar(sql, given)
    exact = found is None or found.endswith(("_nopad_bin", "_0900_bin")) or found == "binary"
    return None if exact else found


def _sqlite_collation(connection: Connection, table: Table, column: str) -> str | None:
    # SQLite tells a column's collation only through an index on it or the table's text.
    sql = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :table")
    lines = str(connection.scalar(sql, {"table": table.name})).upper().split(",")
    for line in lines:
        words = line.replace("(", " ").replace('"', " ").split()
        if column.upper() in words and "COLLATE" in words:
            collation = words[words.index("COLLATE") + 1]
            return None if collation == "BINARY" else collation
    return None


_COLLATION: Mapping[str, Callable[[Connection, Table, str], str | None]] = {
    "postgresql": _postgresql_collation,
    "mysql": _mysql_collation,
    "mariadb": _mysql_collation,
    "sqlite": _sqlite_collation,
}


# -- databases side by side --------------------------------------------------------------


def _differing_settings(wiring: Wiring, seen: Mapping[str, _Seen]) -> Iterator[Problem]:
    for keyspace in wiring.shard_map.keyspaces.values():
        if not isinstance(keyspace, ShardedKeyspace):
            continue
        names = [name for name in keyspace.shards.values() if seen[name].reachable]
        for setting in seen[names[0]].settings if names else ():
            values = {name: seen[name].settings.get(setting, "") for name in names}
            if len(set(values.values())) > 1:
                shown = ", ".join(f"{name}: {value}" for name, value in values.items())
                what = f"the databases of keyspace {keyspace.name} differ in {setting}: {shown}"
                yield Problem("R705", what, keyspace.where)


def _differing_copies(seen: Mapping[str, _Seen]) -> Iterator[Problem]:
    tables: dict[str, Any] = {}
    for name, one in seen.items():
        for table, count in one.counts.items():
            tables.setdefault(table, {})[name] = count
    for table, counts in tables.items():
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{name}: {count} rows" for name, count in counts.items())
            yield Problem("R706", f"the copies of reference table {table} differ: {shown}")
