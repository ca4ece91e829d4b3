"""The shard of an object: from its token, its primary key, or its key attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.sql import ClauseElement

from router.errors import RoutingError
from router.route.aim import MAX_KNOWN, Locate, by_function
from router.route.binds import Binding, BindTable, ReferenceTable, ShardedTable
from router.route.clauses import looks_elsewhere
from router.route.defaults import sql_defaults
from router.route.rows import KeyReader, default_of, shard_of_row


@dataclass(frozen=True, slots=True, eq=False)
class KeyAttributes:
    """Where the objects of a mapper keep the shard key of one of its tables."""

    reader: KeyReader
    names: tuple[str, ...]
    in_primary_key: tuple[int, ...] | None
    carried: tuple[str, ...] = ()
    """The attributes whose values carry the bucket of the key."""
    homes: dict[Any, str] = field(default_factory=dict)
    """The shards of keys that were asked for before."""

    def raw(self, state: InstanceState[Any]) -> tuple[Any, ...]:
        """Return the key attributes as they are, absent ones as None."""
        return tuple(state.dict.get(name) for name in self.names)

    def known(self, state: InstanceState[Any], name: str) -> Any:
        """Return one key attribute of a persistent object, loaded or not."""
        if name in state.dict:
            return state.dict[name]
        if self.in_primary_key is None:
            what = f"{name} of {state.mapper}, a part of its shard key, is not loaded"
            raise RoutingError("R202", what, fix="load the attribute before changing the other")
        return self.of_identity(state.key)[self.names.index(name)]

    def committed(self, state: InstanceState[Any]) -> tuple[Any, ...]:
        """Return the key attributes as the database has them."""
        old = state.committed_state
        return tuple(old.get(name, state.dict.get(name)) for name in self.names)

    def is_forgotten(self, state: InstanceState[Any]) -> bool:
        """Return whether an attribute was set without its old value having been known."""
        old = state.committed_state
        return any(name in old and not state.attrs[name].history.deleted for name in self.names)

    def of_identity(self, key: Any) -> tuple[Any, ...]:
        """Return the shard key that is part of an identity key."""
        return tuple(key[1][at] for at in self.in_primary_key or ())


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """How rows of one mapper are placed: its binding, and the keys of its sharded tables."""

    binding: Binding
    keys: tuple[KeyAttributes, ...] = ()
    telling: frozenset[str] = frozenset()
    """The attributes that say where a row is."""
    names: tuple[str, ...] = ()
    """All key attributes, in the order of `keys`."""
    defaults_look_elsewhere: bool = False
    """Whether the database computes what rows leave out, and may read other rows for it."""

    def raw(self, state: InstanceState[Any]) -> tuple[Any, ...]:
        """Return all key attributes as they are, absent ones as None."""
        given = state.dict
        # Asked several times for every row of a flush, and most keys are one column.
        if len(self.names) == 1:
            return (given.get(self.names[0]),)
        return tuple([given.get(name) for name in self.names])


class States:
    """Finds the shards of objects; one for all sessions of a router."""

    def __init__(self, binds: BindTable) -> None:
        self._binds = binds
        self._placements: dict[Mapper[Any], Placement] = {}

    def placement(self, mapper: Mapper[Any]) -> Placement:
        """Return how rows of `mapper` are placed."""
        found = self._placements.get(mapper)
        if found is None:
            found = self._placements[mapper] = self._placement(mapper)
        return found

    def shard(self, state: InstanceState[Any], placement: Placement, locate: Locate) -> str:
        """Return the shard (without its keyspace) where the row of `state` is.

        That of a new object is where it will be.

        Raises
        ------
        RoutingError
            The object has no key, or a wrong one.
        """
        if state.key is not None:
            return self._persistent(state, placement, locate)
        return self.destined(state, placement, locate)

    def destined(self, state: InstanceState[Any], placement: Placement, locate: Locate) -> str:
        """Return the shard that the key attributes name, where the row will be."""
        if len(placement.keys) == 1:
            one = placement.keys[0]
            return shard_of_row(self.new_key(state, one), one.reader.binding, locate)
        shards = {
            shard_of_row(self.new_key(state, one), one.reader.binding, locate)
            for one in placement.keys
        }
        if len(shards) > 1:
            what = f"the tables of {state.mapper} have shard keys of different shards"
            raise RoutingError("R204", what, fix="give both tables' key columns the same value")
        return shards.pop()

    def _placement(self, mapper: Mapper[Any]) -> Placement:
        binding = self._binds.of_mapper(mapper.base_mapper)
        keyspaces = set()
        keys = []
        for table in mapper.tables:
            bound = self._binds.of_table(table) if isinstance(table, Table) else binding
            keyspaces.add(None if isinstance(bound, ReferenceTable) else bound.keyspace.name)
            if isinstance(bound, ShardedTable):
                keys.append(_key_attributes(mapper, bound))
        if len(keyspaces) > 1:
            what = f"the tables of {mapper} are bound to different keyspaces"
            raise RoutingError("R209", what, where=self._binds.shard_map.source)
        telling = {name for one in keys for name in (*one.names, *one.carried)}
        names = tuple(name for one in keys for name in one.names)
        elsewhere = any(map(_defaults_look_elsewhere, mapper.tables))
        return Placement(binding, tuple(keys), frozenset(telling), names, elsewhere)

    def _persistent(self, state: InstanceState[Any], placement: Placement, locate: Locate) -> str:
        first = placement.keys[0]
        key: Any = state.key
        if key[2] is not None:
            return str(key[2]).partition("/")[2]
        if first.in_primary_key is not None:
            return self._of_identity(first, key, locate)
        if any(name not in state.dict for name in first.names) or first.is_forgotten(state):
            what = f"the shard of {state.mapper} with primary key {key[1]!r} is not known"
            raise RoutingError("R202", what, fix="load the object through the session first")
        values = first.reader.normalise(first.committed(state))
        return shard_of_row(values, first.reader.binding, locate)

    def _of_identity(self, one: KeyAttributes, key: Any, locate: Locate) -> str:
        values = one.of_identity(key)
        # Of these types equal values are equal keys; functions give a key one shard for ever.
        lasting = locate is by_function and len(values) == 1 and values[0].__class__ in (int, str)
        if lasting and (found := one.homes.get(values[0])) is not None:
            return found
        shard = shard_of_row(one.reader.normalise(values), one.reader.binding, locate)
        if lasting and len(one.homes) < MAX_KNOWN:
            one.homes[values[0]] = shard
        return shard

    @staticmethod
    def new_key(state: InstanceState[Any], one: KeyAttributes) -> tuple[Any, ...]:
        """Return the key that a row will have, from its attributes or their defaults."""
        values = []
        for name, column in zip(one.names, one.reader.columns, strict=True):
            value = state.dict.get(name)
            if value is None and state.key is not None:
                value = one.known(state, name)
            elif value is None:
                _apply_default(state, name, column, one.reader.binding)
                value = state.dict.get(name)
            if isinstance(value, ClauseElement):
                what = f"the shard key {name} of {state.mapper} is an SQL expression"
                raise RoutingError("R202", what, fix="compute the shard key in Python")
            values.append(value)
        key = one.reader.normalise(tuple(values))
        for carried, name in zip(one.reader.binding.carried, one.carried, strict=True):
            given = state.dict.get(name)
            if given is not None:
                carried.check(given, key)
        return key


def is_changed(state: InstanceState[Any], placement: Placement) -> bool:
    """Return whether a persistent object has been given a shard key, the same or another."""
    if state.key is None or not state.modified:
        return False
    return not placement.telling.isdisjoint(state.committed_state)


def refuse_moved(state: InstanceState[Any], placement: Placement) -> None:
    """Raise if the shard key of a persistent object has been changed, or may have been."""
    if not state.modified:
        return
    for one in placement.keys:
        for at, name in enumerate(one.names):
            if _has_moved(state, one, at, name):
                binding = one.reader.binding
                table = binding.table.fullname
                what = f"cannot move a row of {table}: its shard key {name} was changed"
                raise RoutingError("R203", what, where=binding.keyspace.table_where.get(table, ""))


def _has_moved(state: InstanceState[Any], one: KeyAttributes, at: int, name: str) -> bool:
    if one.in_primary_key is not None and name in state.dict:
        given = one.reader.normalise(one.raw(state))
        return bool(given[at] != one.reader.normalise(one.of_identity(state.key))[at])
    history = state.attrs[name].history
    # Without the old value it cannot be told that the new one is the same.
    return history.has_changes() and history.added != history.deleted


def _apply_default(
    state: InstanceState[Any], name: str, column: Any, binding: ShardedTable
) -> None:
    """Set an attribute to the value that the INSERT would give it, since None means absent."""
    default = column.default
    if default is None and column.server_default is None and name in state.dict:
        return
    if default is None or not default.is_callable:
        value = default_of(column, binding)
    else:
        try:
            value = default.arg(None)
        except Exception as error:
            what = f"the default of the shard key {binding.table.fullname}.{column.name} failed"
            raise RoutingError("R202", f"{what} without a statement: {error}") from error
    if value is not None:
        setattr(state.obj(), name, value)


def _key_attributes(mapper: Mapper[Any], binding: ShardedTable) -> KeyAttributes:
    columns = {column.name: column for column in binding.table.columns}
    names = tuple(mapper.get_property_by_column(columns[name]).key for name in binding.key)
    primary = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    inside = all(name in primary for name in names)
    at = tuple(primary.index(name) for name in names) if inside else None
    carried = tuple(mapper.get_property_by_column(one.column).key for one in binding.carried)
    return KeyAttributes(KeyReader(binding, mapper), names, at, carried)


def _defaults_look_elsewhere(table: Any) -> bool:
    defaults = [one for column in table.columns for one in (column.default, column.onupdate)]
    return any(looks_elsewhere(one, table) for one in sql_defaults(defaults))
