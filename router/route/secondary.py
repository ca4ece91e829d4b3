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

from router.shardmap.columns import UnsupportedKeyTypeError, key_type
from router.shardmap.functions.protocol import Key
from router.shardmap.keytypes import KeyType
from router.shardmap.model import Unique


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


def column_of(table: Table, name: str) -> Column[Any]:
    """Return the column that the database calls `name`."""
    return next(column for column in table.columns if column.name == name)


def _like(column: Column[Any], *, primary_key: bool) -> Column[Any]:
    copy = getattr(column.type, "copy", None)
    kind = copy() if copy is not None else column.type
    return Column(column.name, kind, primary_key=primary_key, autoincrement=False)
