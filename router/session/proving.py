"""What a guard lets a flush write: rows that have the guarded key, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, and_, select
from sqlalchemy.orm import InstanceState

from router.hooks.flush import is_deleted, written_states
from router.hooks.mappers import tables_of
from router.route.binds import ShardedTable
from router.route.finding import named_by
from router.route.only import Only
from router.route.outside import outside
from router.session.finding import chunks
from router.session.states import is_changed

if TYPE_CHECKING:
    from router.session.flushing import Flushing
    from router.session.states import Placement


class Proofs:
    """The rows of one flush whose key is known to be the guarded one.

    The key of an object says little where the primary key, by which the ORM writes, does not
    contain it: the object may have been made up.  Such rows are looked at, and locked, first.
    """

    def __init__(self, flushing: Flushing, only: Only) -> None:
        self._flushing = flushing
        self._only = only
        self._proven: set[InstanceState[Any]] = set()

    def admit(self, state: InstanceState[Any], placement: Placement, database: str) -> None:
        """Raise `RoutingError` unless the row of an object has the key, and keeps it."""
        routing = self._flushing.routing
        deleted = is_deleted(self._flushing.context, state)
        if state.key is None or (is_changed(state, placement) and not deleted):
            for one in placement.keys:
                key = routing.wiring.states.new_key(state, one)
                self._only.admit_key(one.reader.binding, key)
        routing.guarding.admit_object(self._only, state)
        if state.key is not None and state not in self._proven:
            self._prove(state, database)

    def _prove(self, state: InstanceState[Any], database: str) -> None:
        base = state.mapper.base_mapper
        some = [state] + [
            one
            for one, _ in written_states(self._flushing.context)
            if one.key is not None and one.mapper.base_mapper is base and one not in self._proven
        ]
        keys: dict[Table, dict[tuple[Any, ...], None]] = {}
        for one in some:
            for table in self._unnamed(one):
                identity: Any = one.key
                keys.setdefault(table, {})[tuple(identity[1])] = None
        for table, wanted in keys.items():
            mine = self._mine(table, list(wanted), database)
            if not mine.issuperset(tuple(state.key[1]) for _ in self._unnamed(state)):  # type: ignore[index]
                raise outside(f"a row of {table.fullname} is not there, or has another key")
            some = [one for one in some if tuple(one.key[1]) in mine]  # type: ignore[index]
        self._proven.update(some)

    def _unnamed(self, state: InstanceState[Any]) -> Iterator[Table]:
        """Yield the tables of an object by whose primary keys nobody knows the key."""
        for table in tables_of(state.mapper):
            binding = self._flushing.binding_of(table)
            if isinstance(binding, ShardedTable) and not binding.identified:
                yield table

    def _mine(
        self, table: Table, keys: list[tuple[Any, ...]], database: str
    ) -> set[tuple[Any, ...]]:
        """Return those of some primary keys whose rows have the guarded key; lock the rows."""
        binding: Any = self._flushing.binding_of(table)
        names = {column.name: column for column in table.columns}
        pairs = zip((names[name] for name in binding.key), self._only.values, strict=True)
        own = and_(*(c.is_(None) if value is None else c == value for c, value in pairs))
        columns = tuple(table.primary_key)
        found: set[tuple[Any, ...]] = set()
        connection = self._flushing.connection(database)
        for some in chunks(keys):
            query = select(*columns).where(named_by(columns, some), own).with_for_update()
            found.update(tuple(row) for row in connection.execute(query))
        return found
