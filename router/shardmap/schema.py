"""What the file may say, as pydantic models, and the JSON Schema made of them.

``python -m router.shardmap.schema`` writes ``config/shards.schema.json`` anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from router.shardmap.functions.registry import BUILT_IN
from router.shardmap.strict import Name, Strict

SCHEMA_FILE = "config/shards.schema.json"

Policy = Literal["allow", "deny"]
Word = Annotated[str, StringConstraints(min_length=1)]
Class = Annotated[str, StringConstraints(pattern=r"^[\w.]+:[\w.<>]+$")]


class ReplicaModel(Strict):
    """A read-only copy of a database, and its share of the reads."""

    url: Word = Field(description="SQLAlchemy URL")
    weight: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="its share of the reads, relative to that of the others"
    )


def _url_or_mapping(value: object) -> str:
    return "@replicamodel" if isinstance(value, dict) else "@url"


ReplicaEntry = Annotated[
    Annotated[Word, Tag("@url")] | Annotated[ReplicaModel, Tag("@replicamodel")],
    Discriminator(_url_or_mapping),
]


class DatabaseModel(Strict):
    """One physical database."""

    url: Word = Field(description="SQLAlchemy URL; ${NAME} and ${NAME:-default} are filled in")
    replicas: list[ReplicaEntry] = Field(
        default=[], description="read-only copies: URLs, or mappings with url and weight"
    )
    engine: dict[Word, Any] = Field(default={}, description="keyword arguments of create_engine")


class Unsharded(Strict):
    """A keyspace in one database."""

    database: Name


class Sharding(BaseModel):
    """The sharding function; its options stand beside its name."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    function: Name
    null_shard: Name | None = Field(default=None, description="the shard of rows whose key is NULL")


def _one_or_many(value: object) -> str:
    return "@many" if isinstance(value, list) else "@one"


Columns = Annotated[
    Annotated[Word, Tag("@one")] | Annotated[list[Word], Field(min_length=1), Tag("@many")],
    Discriminator(_one_or_many),
]


class Sharded(Strict):
    """A keyspace split over several databases."""

    shards: dict[Name, Name] = Field(min_length=1, description="shard: database")
    sharding: Sharding
    tables: dict[Word, Columns] = Field(
        default={}, description="table: shard key, a column or a list"
    )
    reference_tables: list[Word] = Field(default=[], description="full copies on every shard")
    scatter: Policy | None = Field(default=None, description="overrides the map's `scatter`")


def _kind_of_keyspace(value: object) -> str:
    only_sharded = Sharded.model_fields.keys()
    sharded = isinstance(value, dict) and not only_sharded.isdisjoint(value)
    return "@sharded" if sharded else "@unsharded"


KeyspaceModel = Annotated[
    Annotated[Unsharded, Tag("@unsharded")] | Annotated[Sharded, Tag("@sharded")],
    Discriminator(_kind_of_keyspace),
]


class BindsModel(Strict):
    """Vertical partitioning; values are keyspaces, looked at in the order of these keys."""

    mappers: dict[Class, Name] = Field(default={}, description="package.module:Class")
    classes: dict[Class, Name] = Field(
        default={}, description="any class of the mapped class's MRO"
    )
    tables: dict[Word, Name] = Field(default={}, description="table or schema.table")
    metadata: dict[Word, Name] = Field(
        default={}, description="names given to Router(metadata=...)"
    )
    default: Name | None = None


class Transactions(Strict):
    """How transactions over several databases end."""

    two_phase: bool = True
    recover_every: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="seconds between recoveries in the background; none without it"
    )


class Gather(Strict):
    """Bounds of the tier that copies rows into one database."""

    max_rows: Annotated[int, Field(ge=0)] = 1_000_000


Seconds = Annotated[float, Field(gt=0)]


class ReplicationModel(Strict):
    """When replicas are read; all times in seconds."""

    max_lag: Seconds | None = Field(
        default=10, description="how far behind a replica may be; null for any distance"
    )
    check_every: Seconds = Field(
        default=1, description="how long what is known of a database's replicas is good"
    )
    retry_after: Seconds = Field(
        default=5, description="how long a replica that did not answer is left alone"
    )
    wait: Annotated[float, Field(ge=0)] = Field(
        default=0.1,
        description="how long a read waits for a replica to reach what it has to see",
    )


class UniqueModel(Strict):
    """Columns of a sharded table whose values no two rows share, whatever their shards."""

    table: Word = Field(description="a sharded table")
    columns: Columns = Field(description="a column or a list")
    keyspace: Name = Field(description="an unsharded keyspace, where the lookup table lives")


class Map(Strict):
    """Where every table lives."""

    version: Literal[1]
    databases: dict[Name, DatabaseModel]
    keyspaces: dict[Name, KeyspaceModel]
    binds: BindsModel = BindsModel()
    transactions: Transactions = Transactions()
    unique: dict[Name, UniqueModel] = Field(default={}, description="name: guarantee")
    scatter: Policy = "allow"
    gather: Gather = Gather()
    replication: ReplicationModel = ReplicationModel()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors and other programs."""
    schema = Map.model_json_schema()
    definitions = schema["$defs"]
    sharding = definitions["Sharding"]
    variants = []
    for name, built_in in BUILT_IN.items():
        options = built_in.options.model_json_schema()
        definitions |= options.pop("$defs", {})
        definitions[f"Sharding_{name}"] = _variant(name, options, sharding)
        variants.append({"$ref": f"#/$defs/Sharding_{name}"})
    definitions["Sharding_custom"] = _custom(sharding)
    definitions["Sharding"] = {"anyOf": [*variants, {"$ref": "#/$defs/Sharding_custom"}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_essential(schema)}


def _essential(schema: Any) -> Any:
    """Leave out what repeats the names of keys, or what versions of pydantic disagree on."""
    if isinstance(schema, list):
        return [_essential(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _essential(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
        and key != "propertyNames"
        and (key, value) != ("additionalProperties", True)
    }


def _variant(name: str, options: dict[str, Any], sharding: dict[str, Any]) -> dict[str, Any]:
    common = sharding["properties"] | {"function": {"const": name}}
    return {
        **options,
        "properties": {**common, **options.get("properties", {})},
        "required": ["function", *options.get("required", [])],
    }


def _custom(sharding: dict[str, Any]) -> dict[str, Any]:
    function = sharding["properties"]["function"] | {"not": {"enum": list(BUILT_IN)}}
    return {**sharding, "properties": {**sharding["properties"], "function": function}}


def main(path: str = SCHEMA_FILE) -> None:
    """Write the JSON Schema to `path`."""
    FilePath(path).write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
