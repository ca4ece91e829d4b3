"""What a guard lets a flush write: rows that have the guarded key, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table, select
from sqlalchemy.orm import InstanceState

from router.errors import RoutingError
from router.hooks.flush import is_deleted, written_states
from router.hooks.mappers import naming_columns, tables_of
from router.route.binds import ShardedTable
from router.route.finding import are_equal, named_by
from router.route.only import Only
from router.route.outside import outside
from router.route.rows import KeyReader
from router.session.finding import chunks
from router.session.states import is_changed
from router.shardmap.functions.protocol import Key

if TYPE_CHECKING:
    from router.session.flushing import Flushing
    from router.session.states import Placement


@dataclass(frozen=True, slots=True)
class _Row:
    """How a flush names the row of an object in one table."""

    binding: ShardedTable
    columns: tuple[Column[Any], ...]
    values: tuple[Any, ...]


class Proofs:
    """The rows of one flush whose key is known to be the guarded one.

    The key of an object says little where what the ORM names its row by does not contain it:
    the object may have been made up.  Such rows are looked at, and locked, first.
    """

    def __init__(self, flushing: Flushing, only: Only) -> None:
        self._flushing = flushing
        self._only = only
        self._proven: set[InstanceState[Any]] = set()

    def own(self, keyspace: str, keys: Iterable[Key]) -> list[Key]:
        """Return those of some keys that are the guarded one; others are not looked for."""
        if keyspace != self._only.keyspace.name:
            return list(keys)
        return [key for key in keys if key == self._only.key]

    def admit(self, state: InstanceState[Any], placement: Placement) -> None:
        """Raise `RoutingError` if the row of an object is known to have, or to get, another key."""
        routing = self._flushing.routing
        deleted = is_deleted(self._flushing.context, state)
        if state.key is None or (is_changed(state, placement) and not deleted):
            for one in placement.keys:
                key = routing.wiring.states.new_key(state, one)
                self._only.admit_key(one.reader.binding, key)
        routing.guarding.admit_object(self._only, state)

    def prove(self, state: InstanceState[Any], database: str) -> None:
        """Raise `RoutingError` unless the row of an object in a database has the key."""
        if state.key is None or state in self._proven:
            return
        base = state.mapper.base_mapper
        unnamed = {state: self._unnamed(state)}
        for one, _ in written_states(self._flushing.context):
            if one.key is not None and one.mapper.base_mapper is base and one not in self._proven:
                # What is to be said against others is said where they are written.
                with suppress(RoutingError):
                    unnamed[one] = self._unnamed(one)
        wanted: dict[tuple[Table, tuple[Column[Any], ...]], list[_Row]] = {}
        for rows in unnamed.values():
            for row in rows:
                wanted.setdefault((row.binding.table, row.columns), []).append(row)
        mine: set[_Row] = set()
        for alike in wanted.values():
            mine |= self._mine(alike, database)
        for row in unnamed[state]:
            if row not in mine:
                table = row.binding.table.fullname
                raise outside(f"a row of {table} is not there, or has another key")
        self._proven.update(one for one, rows in unnamed.items() if mine.issuperset(rows))

    def _unnamed(self, state: InstanceState[Any]) -> list[_Row]:
        """Return how the rows of an object are named where that does not tell their key.

        Raises
        ------
        RoutingError
            It tells another key.
        """
        found = []
        for row in self._rows(state):
            given = {
                column.name: value for column, value in zip(row.columns, row.values, strict=True)
            }
            if not set(row.binding.key) <= given.keys():
                found.append(row)
                continue
            reader = KeyReader(row.binding, None)
            key = reader.normalise(tuple(given[name] for name in row.binding.key))
            self._only.admit_key(row.binding, key)
        return found

    def _rows(self, state: InstanceState[Any]) -> Iterator[_Row]:
        for table in tables_of(state.mapper):
            binding = self._flushing.binding_of(table)
            columns = naming_columns(state.mapper, table)
            if isinstance(binding, ShardedTable) and columns:
                values = tuple(self._named(state, column) for column in columns)
                yield _Row(binding, columns, values)

    def _named(self, state: InstanceState[Any], column: Column[Any]) -> Any:
        """Return the value by which the ORM names a row: the object's, not its identity's."""
        name = state.mapper.get_property_by_column(column).key
        history = state.attrs[name].history
        if history.added and is_deleted(self._flushing.context, state):
            # Some statements of a DELETE go by the new value.
            raise outside(f"{name} of a {state.mapper.class_.__name__} to be deleted has changed")
        found = history.deleted or history.unchanged or history.added
        if found:
            return found[0]
        primary = [state.mapper.get_property_by_column(one).key for one in state.mapper.primary_key]
        identity: Any = state.key
        return identity[1][primary.index(name)] if name in primary else getattr(state.obj(), name)

    def _mine(self, rows: list[_Row], database: str) -> set[_Row]:
        """Return those of some rows of a table that have the guarded key; lock them."""
        binding, columns = rows[0].binding, rows[0].columns
        names = {column.name: column for column in binding.table.columns}
        own = are_equal([names[name] for name in binding.key], self._only.values)
        found: set[tuple[Any, ...]] = set()
        connection = self._flushing.connection(database)
        for some in chunks(list(dict.fromkeys(row.values for row in rows))):
            query = select(*columns).where(named_by(columns, some), own).with_for_update()
            found.update(tuple(row) for row in connection.execute(query))
        return {row for row in rows if row.values in found}
