"""The shard of an object: from its token, its primary key, or its key attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.sql import ClauseElement

from router.errors import RoutingError
from router.route.aim import Locate
from router.route.binds import Binding, BindTable, ReferenceTable, ShardedTable
from router.route.rows import KeyReader, default_of, shard_of_row


@dataclass(frozen=True, slots=True, eq=False)
class KeyAttributes:
    """Where the objects of a mapper keep the shard key of one of its tables."""

    reader: KeyReader
    names: tuple[str, ...]
    in_primary_key: tuple[int, ...] | None

    def raw(self, state: InstanceState[Any]) -> tuple[Any, ...]:
        """Return the key attributes as they are, absent ones as None."""
        return tuple(state.dict.get(name) for name in self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """How rows of one mapper are placed: its binding, and the keys of its sharded tables."""

    binding: Binding
    keys: tuple[KeyAttributes, ...] = ()

    def raw(self, state: InstanceState[Any]) -> tuple[Any, ...]:
        """Return all key attributes as they are, absent ones as None."""
        given = state.dict
        return tuple([given.get(name) for key in self.keys for name in key.names])


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
        """Return the shard (without its keyspace) where the row of `state` is or will be.

        Raises
        ------
        RoutingError
            The object has no key, a wrong one, or one that has been changed.
        """
        if state.key is not None:
            return self._persistent(state, placement, locate)
        if len(placement.keys) == 1:
            one = placement.keys[0]
            return shard_of_row(self._pending_key(state, one), one.reader.binding, locate)
        shards = {
            shard_of_row(self._pending_key(state, one), one.reader.binding, locate)
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
        return Placement(binding, tuple(keys))

    def _persistent(self, state: InstanceState[Any], placement: Placement, locate: Locate) -> str:
        first = placement.keys[0]
        self._refuse_moved(state, placement)
        key: Any = state.key
        if key[2] is not None:
            return str(key[2]).partition("/")[2]
        if first.in_primary_key is not None:
            values = tuple(key[1][at] for at in first.in_primary_key)
        elif any(name not in state.dict for name in first.names):
            what = f"the shard of {state.mapper} with primary key {key[1]!r} is not known"
            raise RoutingError("R202", what, fix="load the object through the session first")
        else:
            values = first.raw(state)
        return shard_of_row(first.reader.normalise(values), first.reader.binding, locate)

    @staticmethod
    def _refuse_moved(state: InstanceState[Any], placement: Placement) -> None:
        if not state.modified:
            return
        for one in placement.keys:
            for name in one.names:
                history = state.attrs[name].history
                if history.deleted and history.added and history.added != history.deleted:
                    table = one.reader.binding.table.fullname
                    what = f"cannot move a row of {table}: its shard key {name} was changed"
                    where = one.reader.binding.keyspace.table_where.get(table, "")
                    raise RoutingError("R203", what, where=where)
                if history.added and not history.deleted and name not in state.unloaded:
                    _refuse_unknown_move(state, one, name)

    @staticmethod
    def _pending_key(state: InstanceState[Any], one: KeyAttributes) -> tuple[Any, ...]:
        values = []
        for name, column in zip(one.names, one.reader.columns, strict=True):
            value = state.dict.get(name)
            if value is None:
                _apply_default(state, name, column, one.reader.binding)
                value = state.dict.get(name)
            if isinstance(value, ClauseElement):
                what = f"the shard key {name} of {state.mapper} is an SQL expression"
                raise RoutingError("R202", what, fix="compute the shard key in Python")
            values.append(value)
        return one.reader.normalise(tuple(values))


def _refuse_unknown_move(state: InstanceState[Any], one: KeyAttributes, name: str) -> None:
    # The old value was never loaded; the identity says where the row is, if it can.
    key: Any = state.key
    table = one.reader.binding.table.fullname
    if one.in_primary_key is None and key is not None and key[2] is not None:
        what = f"cannot tell whether a row of {table} moves: {name} was set before it was loaded"
        raise RoutingError("R203", what)


def _apply_default(
    state: InstanceState[Any], name: str, column: Any, binding: ShardedTable
) -> None:
    default = column.default
    if name in state.dict and default is None:
        return
    obj = state.obj()
    if default is not None and default.is_callable and name not in state.dict:
        try:
            setattr(obj, name, default.arg(None))
        except Exception as error:
            what = f"the default of the shard key {binding.table.fullname}.{column.name} failed"
            raise RoutingError("R202", f"{what} without a statement: {error}") from error
        return
    value = default_of(column, binding)
    if value is not None:
        setattr(obj, name, value)


def _key_attributes(mapper: Mapper[Any], binding: ShardedTable) -> KeyAttributes:
    columns = {column.name: column for column in binding.table.columns}
    names = tuple(mapper.get_property_by_column(columns[name]).key for name in binding.key)
    primary = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    inside = all(name in primary for name in names)
    at = tuple(primary.index(name) for name in names) if inside else None
    return KeyAttributes(KeyReader(binding, mapper), names, at)
