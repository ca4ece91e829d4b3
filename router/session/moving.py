"""Rows whose shard key changes in a flush: inserted on their new shard, deleted on the old one.

The row is copied as the database has it, under its new key, right before the ORM would write
it; the ORM's own UPDATE, with its version counter, then finds it on the new shard.  The old
row is deleted at the end of the flush, when the rows that refer to it have moved, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import Connection, ForeignKeyConstraint, Table, and_, event, inspect, select
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql import ClauseElement

from router.errors import RoutingError
from router.hooks.flush import expect_new_key
from router.hooks.mappers import tables_of
from router.route.target import Destination

if TYPE_CHECKING:
    from router.session.flushing import Flushing

_QUIET = (None, "RESTRICT", "NO ACTION")


@dataclass(frozen=True, slots=True)
class _Left:
    """A row that is to be deleted where it was."""

    table: Table
    row: Mapping[Any, Any]
    connection: Connection


class Moves:
    """The rows that one flush moves."""

    def __init__(self, flushing: Flushing) -> None:
        self._flushing = flushing
        self._carried: set[InstanceState[Any]] = set()
        self._left: list[_Left] = []

    def carry(self, state: InstanceState[Any], old: Destination, new: Destination) -> None:
        """Copy the row of `state` to its new shard, under its new key; once."""
        if state in self._carried:
            return
        self._carried.add(state)
        connections = [self._flushing.connection(one.database) for one in (old, new)]
        for table in tables_of(state.mapper):
            _refuse_unknown_columns(table, connections[0])
            row = _row(table, _old_key(state), connections[0])
            connections[1].execute(table.insert(), _renewed(table, row, state))
            self._left.append(_Left(table, row, connections[0]))
        changed = [one for one in state.mapper.primary_key if _is_changed(state, one)]
        expect_new_key(self._flushing.context, state, changed)
        if state.identity_token is not None:
            state.identity_token = new.shard
            _restore_tokens(self._flushing.session, state)

    def finish(self) -> None:
        """Delete the rows that were left behind, those that refer to others first."""
        for left in reversed(self._left):
            _refuse_cascades(left)
            gone = left.connection.execute(left.table.delete().where(_same_key(left)))
            if gone.rowcount not in (1, -1):
                raise _stale(left.table)


def refuse_reused_keys(
    states: Sequence[InstanceState[Any]], moved: Sequence[InstanceState[Any]]
) -> None:
    """Raise if a new row has the primary key of one that moves away in the same flush.

    The old row is deleted at the end, so that the new one would be in its way.
    """
    left = {(one.mapper.base_mapper, _old_key(one)) for one in moved}
    for state in states if left else ():
        names = [state.mapper.get_property_by_column(c).key for c in state.mapper.primary_key]
        key = tuple(state.dict.get(name) for name in names)
        if state.key is None and (state.mapper.base_mapper, key) in left:
            what = f"a new {state.mapper.class_.__name__} has the primary key {key!r} of a row "
            fix = "flush after the change of the key, before the new object is added"
            raise RoutingError("R203", f"{what}that moves to another shard", fix=fix)


# -- the row -----------------------------------------------------------------------------------


def _old_key(state: InstanceState[Any]) -> tuple[Any, ...]:
    key: Any = state.key
    return tuple(key[1])


def _row(table: Table, key: Sequence[Any], connection: Connection) -> Mapping[Any, Any]:
    named = [column == value for column, value in zip(table.primary_key, key, strict=True)]
    query = select(table).where(*named).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise _stale(table)
    return dict(row)


def _stale(table: Table) -> StaleDataError:
    what = f"the row of table {table.fullname!r} that is to move to another shard is not there"
    return StaleDataError(what)


def _renewed(table: Table, row: Mapping[Any, Any], state: InstanceState[Any]) -> dict[str, Any]:
    """Return the row with the values that its object has been given."""
    mapper = state.mapper
    values = {}
    for column in table.columns:
        if column.computed is not None:
            continue
        values[column.key] = row[column.key]
        if column is not mapper.version_id_col and _is_changed(state, column):
            given = state.dict.get(mapper.get_property_by_column(column).key)
            if not isinstance(given, ClauseElement):
                values[column.key] = given
    return values


def _is_changed(state: InstanceState[Any], column: Any) -> bool:
    try:
        name = state.mapper.get_property_by_column(column).key
    except Exception:  # noqa: BLE001 - a column that is not mapped
        return False
    # What has been given the value that it had is not written, as in any flush.
    return name in state.committed_state and state.attrs[name].history.has_changes()


def _refuse_unknown_columns(table: Table, connection: Connection) -> None:
    found = {column["name"] for column in inspect(connection).get_columns(table.name, table.schema)}
    unknown = found - {column.name for column in table.columns}
    if unknown:
        what = f"cannot move a row of {table.fullname}: the model has no {min(unknown)}"
        raise RoutingError("R203", what, fix="add the column to the model")


# -- what depends on it ------------------------------------------------------------------------


def _same_key(left: _Left) -> Any:
    return and_(*(column == left.row[column.key] for column in left.table.primary_key))


def _refuse_cascades(left: _Left) -> None:
    for constraint in _cascading(left.table):
        pairs = [(one.parent, left.row[one.column.key]) for one in constraint.elements]
        child = constraint.table
        query = select(1).select_from(child).where(*(mine == value for mine, value in pairs))
        if left.connection.execute(query.limit(1)).first() is not None:
            table = left.table.fullname
            what = f"cannot move a row of {table}: rows of {child.fullname} would be cascaded to"
            fix = f"load them by a relationship with passive_updates=False, or move {child} first"
            raise RoutingError("R203", what, fix=fix)


def _cascading(table: Table) -> Iterator[ForeignKeyConstraint]:
    """Yield the foreign keys by which the database would change other rows by itself."""
    for other in table.metadata.tables.values():
        for constraint in other.foreign_key_constraints:
            actions = ((constraint.ondelete or None), (constraint.onupdate or None))
            refers = constraint.referred_table is table
            if refers and any((one and one.upper()) not in _QUIET for one in actions):
                yield constraint


# -- rollbacks ---------------------------------------------------------------------------------


def _restore_tokens(session: Any, state: InstanceState[Any]) -> None:
    """Let a rollback, which gives the object its old identity key, give it its old token."""
    moved: WeakSet[InstanceState[Any]] | None = session.info.get("router_moved")
    if moved is None:
        moved = session.info["router_moved"] = WeakSet()
        event.listen(session, "after_soft_rollback", _rolled_back)
    moved.add(state)


def _rolled_back(session: Any, _previous: Any) -> None:
    for state in session.info["router_moved"]:
        if state.key is not None:
            state.identity_token = state.key[2]
