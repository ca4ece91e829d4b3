"""The shard map as frozen values: what the YAML says, after every check has passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from sqlalchemy.engine import URL

from router.shardmap.functions.protocol import ShardingFunction


def frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a read-only copy of `mapping`, in its order."""
    return MappingProxyType(dict(mapping))


_EMPTY: Mapping[str, Any] = frozen({})


class Scatter(Enum):
    """May a statement without a shard key go to every shard."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Replica:
    """A read-only copy of a database; it gets reads in proportion to its `weight`.

    Its repr has no URL, which can hold a password.
    """

    url: URL = field(repr=False)
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Replication:
    """When replicas are read; all times in seconds.

    Parameters
    ----------
    max_lag:
        How far a replica may be behind; None for any distance.
    check_every:
        How long what is known of the replicas of a database is good.
    retry_after:
        How long a replica that did not answer is left alone.
    wait:
        How long a read waits for a replica to reach what its session has to see.
    """

    max_lag: float | None = 10
    check_every: float = 1
    retry_after: float = 5
    wait: float = 0.1


@dataclass(frozen=True, slots=True)
class Database:
    """One physical database: the only thing that has a URL.

    Its repr has no URL and no engine arguments, since both can hold passwords.
    """

    name: str
    url: URL = field(repr=False)
    replicas: tuple[Replica, ...] = ()
    engine: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, repr=False)
    where: str = ""


@dataclass(frozen=True, slots=True)
class UnshardedKeyspace:
    """One logical database that lives in one physical one."""

    name: str
    database: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class ShardedKeyspace:
    """One logical database split over several physical ones, and its colocation group.

    `shards` maps shard names (without the keyspace) to database names, in the order
    of the map; two shards never share a database.  `tables` maps each sharded table,
    written ``table`` or ``schema.table``, to its shard key columns.
    """

    name: str
    shards: Mapping[str, str]
    function: ShardingFunction
    tables: Mapping[str, tuple[str, ...]]
    reference_tables: tuple[str, ...] = ()
    null_shard: str | None = None
    scatter: Scatter | None = None
    where: str = ""
    table_where: Mapping[str, str] = field(default_factory=lambda: _EMPTY)

    def shard_id(self, shard: str) -> str:
        """Return the full name of `shard`, such as ``shop/s0``."""
        return f"{self.name}/{shard}"


Keyspace = UnshardedKeyspace | ShardedKeyspace


@dataclass(frozen=True, slots=True)
class Binds:
    """Vertical partitioning: names to keyspaces, looked at in the order of the fields.

    `mappers` and `classes` are keyed by ``package.module:Class``, `tables` by ``table``
    or ``schema.table``, `metadata` by the names given to ``Router.from_yaml(metadata=...)``.
    `where` has the place of each entry, under keys such as ``tables.orders``.
    """

    mappers: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    classes: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    tables: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    metadata: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    default: str | None = None
    where: Mapping[str, str] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Unique:
    """Columns of a sharded table that name at most one row, over all shards.

    A lookup table in `keyspace` has a row for each row of `table` in which none of `columns`
    is NULL.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    keyspace: UnshardedKeyspace
    where: str = ""


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Where every table lives: the whole of the YAML file."""

    databases: Mapping[str, Database]
    keyspaces: Mapping[str, Keyspace]
    binds: Binds = Binds()
    unique: Mapping[str, Unique] = field(default_factory=lambda: _EMPTY)
    two_phase: bool = True
    recover_every: float | None = None
    scatter: Scatter = Scatter.ALLOW
    gather_max_rows: int = 1_000_000
    replication: Replication = Replication()
    source: str = "<dict>"

    def databases_of(self, keyspace: Keyspace) -> tuple[str, ...]:
        """Return the names of the databases of `keyspace`, in the map's order."""
        if isinstance(keyspace, UnshardedKeyspace):
            return (keyspace.database,)
        return tuple(keyspace.shards.values())
