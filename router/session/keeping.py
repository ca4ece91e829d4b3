"""Lookup tables kept in step with a flush: changed rows first, then new, then deleted ones.

That is the order in which the ORM writes the rows of a table, changed ones by primary key, so
that a value is taken where one database would find it taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table, and_, select
from sqlalchemy.orm import InstanceState
from sqlalchemy.sql import ClauseElement

from router.hooks.flush import written_states
from router.route.binds import ShardedTable
from router.route.secondary import UniqueKey
from router.session.unique import untold

if TYPE_CHECKING:
    from router.session.flushing import Flushing

State = InstanceState[Any]


class _What(Enum):
    """What a flush does to a row, in the order in which lookup tables are told."""

    CHANGED = 1
    ADDED = 2
    DELETED = 3


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row with a unique key: what is done to it, and what named it before."""

    what: _What
    unique: UniqueKey
    state: State
    key: tuple[Any, ...]
    written: frozenset[str] = frozenset()
    """The attributes of a changed row that the flush writes."""


class Keeping:
    """The rows with unique keys that one flush writes."""

    def __init__(self, flushing: Flushing) -> None:
        self._flushing = flushing
        self._kept: dict[tuple[UniqueKey, State], _Kept] = {}

    def expect(self) -> None:
        """Note what is going to be written, while what names the rows is still known."""
        for state, deleted in written_states(self._flushing.context):
            for unique in self._unique(state):
                if (unique, state) not in self._kept:
                    self._note(unique, state, deleted=deleted)

    def finish(self) -> None:
        """Bring the lookup tables in step with what was written."""
        self.expect()
        keys: Any = self._flushing.unique
        kept = sorted(self._kept.values(), key=lambda one: one.what.value)
        deleted = {(one.unique, one.key) for one in kept if one.what is _What.DELETED}
        for one in kept:
            if one.what is _What.DELETED:
                if (one.unique, one.key) in deleted:
                    keys.remove(one.unique, [one.key])
                continue
            row = self._row(one)
            # A new object in the place of a deleted one is an UPDATE of its row.
            same = (one.unique, tuple(row[column.name] for column in one.unique.row))
            key = same[1] if one.what is _What.ADDED and same in deleted else one.key
            deleted.discard(same)
            if key:
                keys.renew(one.unique, key, row)
            else:
                keys.add(one.unique, [row])

    def _note(self, unique: UniqueKey, state: State, *, deleted: bool) -> None:
        if state.key is None:
            if not deleted:
                self._kept[unique, state] = _Kept(_What.ADDED, unique, state, ())
            return
        written = _written(state, unique)
        if deleted or written:
            what = _What.DELETED if deleted else _What.CHANGED
            key = tuple(_known(state, column) for column in unique.row)
            self._kept[unique, state] = _Kept(what, unique, state, key, written)

    def _unique(self, state: State) -> Iterator[UniqueKey]:
        for table in state.mapper.tables:
            binding = self._flushing.binding_of(table) if isinstance(table, Table) else None
            if isinstance(binding, ShardedTable):
                yield from binding.unique

    # -- the values that a row has now -----------------------------------------------------

    def _row(self, one: _Kept) -> Mapping[str, Any]:
        columns = list(dict.fromkeys((*one.unique.row, *one.unique.columns)))
        values = {column: _value(one, column) for column in columns}
        unknown = [column for column, value in values.items() if value is _UNKNOWN]
        if unknown:
            values.update(self._read(one, unknown, values))
        return {column.name: value for column, value in values.items()}

    def _read(
        self, one: _Kept, unknown: list[Column[Any]], known: Mapping[Column[Any], Any]
    ) -> dict[Column[Any], Any]:
        """Return values that the database computed."""
        if any(column in unknown for column in one.unique.row):
            raise untold(f"a row of {one.unique.table.fullname} whose key the database computes")
        named = and_(*(column == known[column] for column in one.unique.row))
        connection = self._flushing.connection_of(one.state)
        row = connection.execute(select(*unknown).where(named)).one()
        return dict(zip(unknown, row, strict=True))


class _Unknown(Enum):
    VALUE = "unknown"


_UNKNOWN = _Unknown.VALUE


def _columns(unique: UniqueKey) -> list[Column[Any]]:
    return list(dict.fromkeys((*unique.columns, *unique.row)))


def _name(state: State, column: Column[Any]) -> str:
    return str(state.mapper.get_property_by_column(column).key)


def _written(state: State, unique: UniqueKey) -> frozenset[str]:
    """Return the attributes that an UPDATE sets; not those that only look as if changed."""
    names = {_name(state, column) for column in _columns(unique)}
    changed = names & state.committed_state.keys()
    return frozenset(name for name in changed if state.attrs[name].history.has_changes())


def _value(one: _Kept, column: Column[Any]) -> Any:
    name = _name(one.state, column)
    written = one.written | _written(one.state, one.unique)
    if one.what is _What.CHANGED and name not in written and column not in one.unique.row:
        # What the session knows of it may be out of date.
        return _UNKNOWN
    value = one.state.dict.get(name, _UNKNOWN)
    return _UNKNOWN if isinstance(value, ClauseElement) else value


def _known(state: State, column: Column[Any]) -> Any:
    """Return the value that the database has for a part of what names a row."""
    primary = list(state.mapper.primary_key)
    same = [at for at, one in enumerate(primary) if one is column]
    if same:
        identity: Any = state.key
        return identity[1][same[0]]
    name = _name(state, column)
    if name in state.committed_state:
        old = state.attrs[name].history.deleted
        if not old:
            raise untold(f"{name} of {state.mapper} was changed without having been loaded")
        return old[0]
    return getattr(state.obj(), name)
