"""What a map has to get right beyond its structure, one rule a function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from router.shardmap.assemble import key_columns
from router.shardmap.databases import dialect_of, place_of
from router.shardmap.findings import At, Findings, Path, shown, suggestion
from router.shardmap.model import Database
from router.shardmap.schema import Map, Sharded


def check(parsed: Map, databases: Mapping[str, Database], findings: Findings) -> None:
    """Note every problem in what the parts of the map say of each other."""
    known = _names(findings, "databases", parsed.databases)
    keyspaces = _names(findings, "keyspaces", parsed.keyspaces)
    for name, keyspace in parsed.keyspaces.items():
        path: Path = ("keyspaces", name)
        if isinstance(keyspace, Sharded):
            _shards(path, keyspace, known, findings)
            _one_place(path, keyspace, databases, findings)
            _one_dialect(path, keyspace, databases, findings)
            _null_shard(path, keyspace, findings)
            _columns(path, keyspace, findings)
        else:
            _is_known("R110", "database", keyspace.database, known, (*path, "database"), findings)
    _bound_keyspaces(parsed, keyspaces, findings)
    _tables_once(parsed, findings)
    for name in parsed.unique:
        _unique(name, parsed, keyspaces, databases, findings)


def _names(findings: Findings, part: str, sound: Iterable[str]) -> list[str]:
    """Return all names of a part, those whose own definition is wrong as well."""
    raw = findings.document.data.get(part)
    return list(raw) if isinstance(raw, dict) else list(sound)


def _is_known(
    id: str, noun: str, name: str, known: Iterable[str], path: Path, findings: Findings
) -> None:
    if name not in (known := list(known)):
        what = f"there is no {noun} {shown(name)}{suggestion(name, known)}"
        findings.add(id, path, what)


def _shards(path: Path, keyspace: Sharded, known: list[str], findings: Findings) -> None:
    seen: dict[str, str] = {}
    for shard, database in keyspace.shards.items():
        place = (*path, "shards", shard)
        _is_known("R110", "database", database, known, place, findings)
        if database in seen:
            what = f"`{shard}` is in the same database as `{seen[database]}`"
            findings.add("R114", place, what)
        seen.setdefault(database, shard)


def _one_place(
    path: Path, keyspace: Sharded, databases: Mapping[str, Database], findings: Findings
) -> None:
    """Refuse two names of one database as well: its rows would be read twice."""
    seen: dict[tuple[object, ...], tuple[str, str]] = {}
    for shard, name in keyspace.shards.items():
        place = place_of(databases[name]) if name in databases else None
        first, first_name = seen.setdefault(place, (shard, name)) if place else (shard, name)
        if first_name != name:
            what = f"`{shard}` is in the same database as `{first}`: "
            what += f"the URLs of `{name}` and `{first_name}` lead to one place"
            findings.add("R114", (*path, "shards", shard), what)


def _one_dialect(
    path: Path, keyspace: Sharded, databases: Mapping[str, Database], findings: Findings
) -> None:
    dialects = {
        database: dialect_of(databases[database].url)
        for database in keyspace.shards.values()
        if database in databases
    }
    if len(set(dialects.values())) > 1:
        listed = ", ".join(f"`{name}` is {dialect}" for name, dialect in dialects.items())
        findings.add("R115", (*path, "shards"), f"different dialects: {listed}", at=At.KEY)


def _null_shard(path: Path, keyspace: Sharded, findings: Findings) -> None:
    shard = keyspace.sharding.null_shard
    if shard is not None and shard not in keyspace.shards:
        what = f"the keyspace has no shard `{shard}`{suggestion(shard, keyspace.shards)}"
        findings.add("R112", (*path, "sharding", "null_shard"), what)


def _columns(path: Path, keyspace: Sharded, findings: Findings) -> None:
    counts = {table: len(key_columns(columns)) for table, columns in keyspace.tables.items()}
    first = next(iter(counts), "")
    for table, columns in keyspace.tables.items():
        place = (*path, "tables", table)
        if counts[table] != counts[first]:
            what = f"{shown(table)} has {counts[table]} key columns, {shown(first)} {counts[first]}"
            findings.add("R120", place, what)
        repeated = [c for c in dict.fromkeys(columns) if key_columns(columns).count(c) > 1]
        for column in repeated if isinstance(columns, list) else ():
            findings.add("R120", place, f"the key has the column {shown(column)} twice")


def _bound_keyspaces(parsed: Map, keyspaces: list[str], findings: Findings) -> None:
    for kind in ("mappers", "classes", "tables", "metadata"):
        for name, keyspace in getattr(parsed.binds, kind).items():
            path = ("binds", kind, name)
            _is_known("R111", "keyspace", keyspace, keyspaces, path, findings)
    if (default := parsed.binds.default) is not None:
        _is_known("R111", "keyspace", default, keyspaces, ("binds", "default"), findings)


def _tables_once(parsed: Map, findings: Findings) -> None:
    """Note tables with two homes; only the copies of reference tables may have several."""
    homes: dict[str, tuple[str, bool]] = {}
    for table, home, path, is_copy, at in chain(_listed(parsed), _bound(parsed)):
        if table not in homes:
            homes[table] = (home, is_copy)
            continue
        other, other_is_copy = homes[table]
        if not (is_copy and other_is_copy and home != other):
            what = f"the table {shown(table)} is already listed under {other}"
            findings.add("R113", path, what, at=at)


def _listed(parsed: Map) -> Iterator[tuple[str, str, Path, bool, At]]:
    for name, keyspace in parsed.keyspaces.items():
        if not isinstance(keyspace, Sharded):
            continue
        path = ("keyspaces", name)
        for table in keyspace.tables:
            yield table, f"keyspace `{name}`", (*path, "tables", table), False, At.KEY
        for index, table in enumerate(keyspace.reference_tables):
            place = (*path, "reference_tables", index)
            yield table, f"keyspace `{name}`", place, True, At.VALUE


def _bound(parsed: Map) -> Iterator[tuple[str, str, Path, bool, At]]:
    for table in parsed.binds.tables:
        yield table, "`binds: tables`", ("binds", "tables", table), False, At.KEY


def _unique(
    name: str,
    parsed: Map,
    keyspaces: list[str],
    databases: Mapping[str, Database],
    findings: Findings,
) -> None:
    entry, path = parsed.unique[name], ("unique", name)
    _is_known("R111", "keyspace", entry.keyspace, keyspaces, (*path, "keyspace"), findings)
    columns = key_columns(entry.columns)
    if len(set(columns)) < len(columns):
        findings.add("R127", (*path, "columns"), "a column is there twice")
    homes = [one for one in parsed.keyspaces.values() if isinstance(one, Sharded)]
    home = next((one for one in homes if entry.table in one.tables), None)
    if home is None:
        known = [table for one in homes for table in one.tables]
        what = f"{shown(entry.table)} is no sharded table{suggestion(entry.table, known)}"
        findings.add("R127", (*path, "table"), what)
        return
    lookup = parsed.keyspaces.get(entry.keyspace)
    if isinstance(lookup, Sharded):
        what = f"the keyspace {shown(entry.keyspace)} is sharded"
        findings.add("R127", (*path, "keyspace"), what)
    elif lookup is not None:
        used = (lookup.database, *home.shards.values())
        kinds = {dialect_of(databases[one].url) for one in used if one in databases}
        if len(kinds) > 1:
            what = (
                f"the lookup table and its rows have different dialects: {', '.join(sorted(kinds))}"
            )
            findings.add("R127", (*path, "keyspace"), what)
