"""Secondary keys: further columns of a sharded table whose values name its shard, too.

They come in two kinds.  The values of a carried key contain the bucket of the shard key; those
of a looked-up key are unique over all shards, and a lookup table says to which shard key each
belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Index, MetaData, Table

from router.errors import RoutingError
from router.ids.bucket_ids import BucketIds
from router.shardmap.columns import UnsupportedKeyTypeError, key_type
from router.shardmap.functions.hash import HashFunction
from router.shardmap.functions.protocol import Key
from router.shardmap.keytypes import KeyType
from router.shardmap.model import ShardedKeyspace, Unique


@dataclass(frozen=True, slots=True, eq=False)
class UniqueKey:
    """Columns whose values one row has at most, whatever its shard, and their lookup table.

    `row` are the columns that name a row of `table`: its primary key and its shard key.
    """

    entry: Unique
    table: Table
    lookup: Table
    row: tuple[Column[Any], ...]

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """The unique columns, in the order of the map."""
        return tuple(column_of(self.table, name) for name in self.entry.columns)

    @property
    def database(self) -> str:
        """The database of the lookup table."""
        return self.entry.keyspace.database

    def known_as(self, column: Column[Any]) -> Column[Any]:
        """Return the lookup table's copy of a column."""
        return self.lookup.c[column.name]


@dataclass(frozen=True, slots=True, eq=False)
class Secondary:
    """Columns, other than the shard key, whose values say on which shards a row may be.

    Parameters
    ----------
    shard_of:
        Returns the shard that a carried key names, None for one that no row can have.
    unique:
        The lookup table of a looked-up key.
    """

    columns: tuple[str, ...]
    types: tuple[KeyType, ...]
    shard_of: Callable[[Key], str | None] | None = None
    unique: UniqueKey | None = None

    @property
    def name(self) -> str:
        """The columns, for messages."""
        return " and ".join(self.columns)


def unique_keys(
    table: Table, key: tuple[str, ...], entries: Iterable[Unique]
) -> tuple[UniqueKey, ...]:
    """Return the unique keys that the map gives `table`, whose shard key is `key`."""
    primary = [column.name for column in table.primary_key]
    row = tuple(column_of(table, name) for name in dict.fromkeys([*primary, *key]))
    return tuple(UniqueKey(one, table, lookup_table(one, table, row), row) for one in entries)


def lookup_table(entry: Unique, table: Table, row: tuple[Column[Any], ...]) -> Table:
    """Describe the lookup table of a unique key: its values, and what names their row."""
    own = [column_of(table, name) for name in entry.columns]
    columns = [_like(column, primary_key=True) for column in own]
    columns += [_like(column, primary_key=False) for column in row if column not in own]
    name = f"router_unique_{entry.name}"
    index = Index(f"{name}_row", *(column.name for column in row))
    return Table(name, MetaData(), *columns, index)


def looked_up(unique: UniqueKey) -> Secondary | None:
    """Return the unique key as a secondary key; None where values cannot be compared safely."""
    try:
        types = tuple(key_type(column.type) for column in unique.columns)
    except UnsupportedKeyTypeError:
        return None
    return Secondary(unique.entry.columns, types, unique=unique)


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A column whose ids carry the bucket of their row's shard key."""

    column: Column[Any]
    maker: BucketIds
    function: HashFunction

    def shard_of(self, key: Key) -> str | None:
        """Return the shard that an id names."""
        owners, bucket = self.function.owners, self.maker.bucket_of(int(str(key[0])))
        return owners[bucket] if bucket < len(owners) else None

    def check(self, id: Any, key: Key) -> None:
        """Raise `RoutingError` unless an id carries the bucket of a shard key."""
        if isinstance(id, int) and self.maker.bucket_of(id) == self.function.bucket_of(key):
            return
        what = f"{self.column.table.fullname}.{self.column.name} {id!r} does not carry the bucket"
        raise RoutingError("R807", f"{what} of the shard key {self.maker.column}")

    def as_secondary(self) -> Secondary:
        """Return the column as a secondary key."""
        types = (key_type(self.column.type),)
        return Secondary((self.column.name,), types, shard_of=self.shard_of)


def carried_keys(
    table: Table, keyspace: ShardedKeyspace, key: tuple[str, ...]
) -> tuple[Carried, ...]:
    """Return the columns of `table` whose default makes bucket ids.

    Raises
    ------
    RoutingError
        The buckets of a default are not those of the keyspace, or of another column.
    """
    makers = [(column, getattr(column.default, "arg", None)) for column in table.columns]
    function = keyspace.function
    found = []
    for column, maker in makers:
        if not isinstance(maker, BucketIds):
            continue
        named = table.c[maker.column].name if maker.column in table.c else maker.column
        fits = isinstance(function, HashFunction) and len(function.owners) == maker.buckets
        if not isinstance(function, HashFunction) or not fits or key != (named,):
            what = f"the ids of {table.fullname}.{column.name} carry one of {maker.buckets} buckets"
            what += f" of {maker.column}, but the shard key is {' and '.join(key)}, by the "
            raise RoutingError("R807", f"{what}{keyspace.name}'s function", where=keyspace.where)
        found.append(Carried(column, maker, function))
    return tuple(found)


def column_of(table: Table, name: str) -> Column[Any]:
    """Return the column that the database calls `name`."""
    return next(column for column in table.columns if column.name == name)


def _like(column: Column[Any], *, primary_key: bool) -> Column[Any]:
    copy = getattr(column.type, "copy", None)
    kind = copy() if copy is not None else column.type
    return Column(column.name, kind, primary_key=primary_key, autoincrement=False)
