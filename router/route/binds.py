"""Which keyspace a mapper or a table is bound to.

Looked at in this order: the mapper, the classes of its MRO (most specific first), the
table, the metadata of the table, the default.  Nothing is imported by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.orm import Mapper

from router.errors import RoutingError, UnboundTableError
from router.hooks.mappers import all_mappers
from router.route.defaults import far_defaults
from router.route.secondary import (
    Carried,
    Secondary,
    UniqueKey,
    carried_keys,
    looked_up,
    unique_keys,
)
from router.shardmap.columns import key_type
from router.shardmap.keytypes import KeyType
from router.shardmap.model import Keyspace, ShardedKeyspace, ShardMap, UnshardedKeyspace


@dataclass(frozen=True, slots=True, eq=False)
class _BoundTable:
    """What is known of every table."""

    table: Table
    far_defaults: tuple[Column[Any], ...] = field(kw_only=True)
    """Columns whose defaults may be read from other rows than the new one."""


@dataclass(frozen=True, slots=True, eq=False)
class UnshardedTable(_BoundTable):
    """A table that lives in one database."""

    keyspace: UnshardedKeyspace


@dataclass(frozen=True, slots=True, eq=False)
class ShardedTable(_BoundTable):
    """A table split by its shard key; `types` normalise the key columns' values."""

    keyspace: ShardedKeyspace
    key: tuple[str, ...]
    types: tuple[KeyType, ...]
    identified: bool
    """Whether the primary key contains the shard key: no two shards can hold the same one."""
    unique: tuple[UniqueKey, ...] = ()
    carried: tuple[Carried, ...] = ()
    secondary: tuple[Secondary, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceTable(_BoundTable):
    """A table of which every shard of its keyspaces holds a full copy."""

    keyspaces: tuple[ShardedKeyspace, ...]
    databases: tuple[str, ...]


Binding = UnshardedTable | ShardedTable | ReferenceTable


class BindTable:
    """Resolves tables and mappers to keyspaces, once each.

    Parameters
    ----------
    shard_map:
        The map to look in.
    metadata:
        The names that the map's ``binds: metadata:`` uses.
    mappers:
        Gives every mapper there is.
    """

    def __init__(
        self,
        shard_map: ShardMap,
        metadata: Mapping[str, MetaData],
        mappers: Callable[[], Iterable[Mapper[Any]]] = all_mappers,
    ) -> None:
        self.shard_map = shard_map
        self._mappers = mappers
        self._metadata = {id(value): name for name, value in metadata.items()}
        self._bindings: dict[Table, Binding] = {}
        self._listed, self._references = _listed_tables(shard_map)

    def of_table(self, table: Table) -> Binding:
        """Return the binding of `table`; raise `UnboundTableError` where there is none."""
        binding = self._bindings.get(table)
        if binding is None:
            binding = self._bindings[table] = self._bind(table)
        return binding

    def of_mapper(self, mapper: Mapper[Any]) -> Binding:
        """Return the binding of the table that identifies the rows of `mapper`."""
        table = mapper.local_table
        parent = mapper.inherits
        while not isinstance(table, Table) and parent is not None:
            table, parent = parent.local_table, parent.inherits
        if not isinstance(table, Table):
            tables = [one for one in mapper.tables if isinstance(one, Table)]
            if not tables:
                raise UnboundTableError("R201", f"{mapper} is mapped to no table")
            table = tables[0]
        return self.of_table(table)

    def default(self) -> Keyspace:
        """Return the keyspace of statements that name no table."""
        name = self.shard_map.binds.default
        if name is None and len(self.shard_map.keyspaces) == 1:
            name = next(iter(self.shard_map.keyspaces))
        if name is None:
            raise UnboundTableError(
                "R201", "the statement names no table, and the map has no default keyspace"
            )
        return self.shard_map.keyspaces[name]

    # -- how a table is bound -----------------------------------------------------------------

    def _bind(self, table: Table) -> Binding:
        by_mapper = self._by_mapper(table)
        if by_mapper is None and table.fullname in self._references:
            return self._reference(table)
        name = by_mapper or self._by_name(table)
        if name is None:
            raise UnboundTableError("R201", self._looked_at(table), where=self.shard_map.source)
        keyspace = self.shard_map.keyspaces[name]
        if isinstance(keyspace, UnshardedKeyspace):
            return UnshardedTable(table, keyspace, far_defaults=far_defaults(table))
        return self._sharded(table, keyspace)

    def _by_mapper(self, table: Table) -> str | None:
        binds = self.shard_map.binds
        if not binds.mappers and not binds.classes:
            return None
        found = {
            name
            for mapper in self._mappers()
            if mapper.local_table is table and (name := self._of_class(mapper.class_))
        }
        if len(found) > 1:
            what = (
                f"the mappers of table {table.fullname} are bound to {' and '.join(sorted(found))}"
            )
            raise RoutingError("R209", what, where=self.shard_map.source)
        return found.pop() if found else None

    def _of_class(self, mapped: type) -> str | None:
        binds = self.shard_map.binds
        own = binds.mappers.get(_class_name(mapped))
        if own is not None:
            return own
        names = (binds.classes.get(_class_name(base)) for base in mapped.__mro__)
        return next((name for name in names if name is not None), None)

    def _by_name(self, table: Table) -> str | None:
        binds = self.shard_map.binds
        listed = self._listed.get(table.fullname) or binds.tables.get(table.fullname)
        if listed is not None:
            return listed
        metadata = self._metadata.get(id(table.metadata))
        return binds.metadata.get(metadata or "") or binds.default

    def _looked_at(self, table: Table) -> str:
        metadata = self._metadata.get(id(table.metadata))
        classes = [_class_name(m.class_) for m in self._mappers() if m.local_table is table]
        looked = [
            f"the mappers and classes of {', '.join(sorted(classes))}" if classes else "no mapper",
            f"the table name {table.fullname!r}",
            f"the metadata {metadata!r}" if metadata else "its metadata, which has no name here",
            "the default, which is not set",
        ]
        return f"table {table.fullname} is bound to no keyspace; looked at: {'; '.join(looked)}"

    def _reference(self, table: Table) -> ReferenceTable:
        keyspaces = self._references[table.fullname]
        names = [name for keyspace in keyspaces for name in keyspace.shards.values()]
        databases = tuple(dict.fromkeys(names))
        return ReferenceTable(table, keyspaces, databases, far_defaults=far_defaults(table))

    def _sharded(self, table: Table, keyspace: ShardedKeyspace) -> Binding:
        key = keyspace.tables.get(table.fullname)
        if key is None:
            what = f"table {table.fullname} has no shard key in keyspace {keyspace.name}"
            fix = f"list it under `keyspaces: {keyspace.name}: tables:` with its shard key"
            raise UnboundTableError("R201", what, where=keyspace.where, fix=fix)
        columns = {column.name: column for column in table.columns}
        missing = [name for name in key if name not in columns]
        if missing:
            what = f"table {table.fullname} has no column {missing[0]} to be its shard key"
            raise RoutingError("R202", what, where=keyspace.table_where.get(table.fullname, ""))
        types = tuple(key_type(columns[name].type) for name in key)
        primary = {column.name for column in table.primary_key.columns}
        entries = (one for one in self.shard_map.unique.values() if one.table == table.fullname)
        unique = unique_keys(table, key, entries)
        carried = carried_keys(table, keyspace, key)
        secondary = [one.as_secondary() for one in carried]
        secondary += [one for one in map(looked_up, unique) if one is not None]
        inside = set(key) <= primary
        return ShardedTable(
            table,
            keyspace,
            key,
            types,
            inside,
            unique,
            carried,
            tuple(secondary),
            far_defaults=far_defaults(table),
        )


def _class_name(mapped: type) -> str:
    return f"{mapped.__module__}:{mapped.__qualname__}"


def _listed_tables(
    shard_map: ShardMap,
) -> tuple[dict[str, str], dict[str, tuple[ShardedKeyspace, ...]]]:
    listed: dict[str, str] = {}
    references: dict[str, tuple[ShardedKeyspace, ...]] = {}
    for keyspace in shard_map.keyspaces.values():
        if isinstance(keyspace, ShardedKeyspace):
            listed.update(dict.fromkeys(keyspace.tables, keyspace.name))
            for name in keyspace.reference_tables:
                references[name] = (*references.get(name, ()), keyspace)
    return listed, references
