"""The models of `schema` -> the frozen values of `model`."""

from __future__ import annotations

from collections.abc import Mapping

from router.shardmap.databases import build_replication
from router.shardmap.findings import At, Findings, Path
from router.shardmap.functions.building import OptionsError, Site
from router.shardmap.functions.protocol import ShardingFunction
from router.shardmap.functions.registry import build_function
from router.shardmap.model import (
    Binds,
    Database,
    Keyspace,
    Scatter,
    ShardedKeyspace,
    ShardMap,
    Unique,
    UnshardedKeyspace,
    frozen,
)
from router.shardmap.schema import BindsModel, Map, Sharded


def assemble(parsed: Map, databases: Mapping[str, Database], findings: Findings) -> ShardMap:
    """Return the map; keyspaces whose function could not be built are left out and noted."""
    keyspaces: dict[str, Keyspace] = {}
    for name, model in parsed.keyspaces.items():
        where = findings.document.where(("keyspaces", name), At.KEY)
        if not isinstance(model, Sharded):
            keyspaces[name] = UnshardedKeyspace(name, model.database, where)
            continue
        function = _function(name, model, findings)
        if function is not None:
            keyspaces[name] = _sharded(name, model, function, findings)
    return ShardMap(
        databases=frozen(databases),
        keyspaces=frozen(keyspaces),
        binds=_binds(parsed.binds, findings),
        unique=frozen(_unique(parsed, keyspaces, findings)),
        two_phase=parsed.transactions.two_phase,
        recover_every=parsed.transactions.recover_every,
        scatter=Scatter(parsed.scatter),
        gather_max_rows=parsed.gather.max_rows,
        replication=build_replication(parsed.replication, findings),
        source=findings.document.source,
    )


def key_columns(columns: str | list[str]) -> tuple[str, ...]:
    """Return the shard key columns of a table, of which the file may name one or several."""
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _sharded(
    name: str, model: Sharded, function: ShardingFunction, findings: Findings
) -> ShardedKeyspace:
    path: Path = ("keyspaces", name)
    where = findings.document.where
    listed = {table: where((*path, "tables", table), At.KEY) for table in model.tables}
    copies = {
        table: where((*path, "reference_tables", index))
        for index, table in enumerate(model.reference_tables)
    }
    return ShardedKeyspace(
        name=name,
        shards=frozen(model.shards),
        function=function,
        tables=frozen({table: key_columns(c) for table, c in model.tables.items()}),
        reference_tables=tuple(model.reference_tables),
        null_shard=model.sharding.null_shard,
        scatter=Scatter(model.scatter) if model.scatter else None,
        where=where(path, At.KEY),
        table_where=frozen(listed | copies),
    )


def _function(name: str, model: Sharded, findings: Findings) -> ShardingFunction | None:
    lengths = [len(key_columns(columns)) for columns in model.tables.values()]
    databases = findings.document.data.get("databases")
    site = Site(
        keyspace=name,
        shards=tuple(model.shards),
        columns=max(lengths, default=1),
        databases=tuple(databases) if isinstance(databases, dict) else (),
    )
    options = model.sharding.model_extra or {}
    try:
        return build_function({"function": model.sharding.function, **options}, site)
    except OptionsError as error:
        for c in error.complaints:
            findings.add(c.id, ("keyspaces", name, "sharding", *c.path), c.what, at=c.at)
    return None


def _unique(
    parsed: Map, keyspaces: Mapping[str, Keyspace], findings: Findings
) -> dict[str, Unique]:
    found = {}
    for name, model in parsed.unique.items():
        keyspace = keyspaces.get(model.keyspace)
        if isinstance(keyspace, UnshardedKeyspace):
            where = findings.document.where(("unique", name), At.KEY)
            found[name] = Unique(name, model.table, key_columns(model.columns), keyspace, where)
    return found


def _binds(model: BindsModel, findings: Findings) -> Binds:
    kinds = {
        "mappers": model.mappers,
        "classes": model.classes,
        "tables": model.tables,
        "metadata": model.metadata,
    }
    where = {
        f"{kind}.{name}": findings.document.where(("binds", kind, name), At.KEY)
        for kind, names in kinds.items()
        for name in names
    }
    named = {kind: frozen(names) for kind, names in kinds.items()}
    return Binds(**named, default=model.default, where=frozen(where))
