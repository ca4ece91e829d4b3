"""The rows of one flush: the keys they have, and the copies of those in reference tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, event
from sqlalchemy.orm import InstanceState, Mapper, object_session

from router.errors import CrossShardError, RoutingError
from router.execute.copies import copy_row
from router.hooks.flush import sort_by_database
from router.route.binds import ReferenceTable
from router.route.predicates import Null
from router.session.states import Placement
from router.shardmap.functions.directory import DirectoryFunction
from router.shardmap.functions.protocol import Key


class KeysOfRows:
    """The keys of new and of old rows, by keyspace, as far as a directory is to be asked."""

    def __init__(self) -> None:
        self.new: dict[str, list[Key]] = {}
        self.old: dict[str, list[Key]] = {}

    def add(self, state: InstanceState[Any], placement: Placement) -> None:
        """Note the keys of an object that has them by now."""
        found = self.new if state.key is None else self.old
        for one in placement.keys:
            keyspace = one.reader.binding.keyspace
            raw = one.raw(state)
            if None in raw or not isinstance(keyspace.function, DirectoryFunction):
                continue
            try:
                key = one.reader.normalise(raw)
            except RoutingError:
                # It is reported where the row is written.
                continue
            if Null.NULL not in key:
                found.setdefault(keyspace.name, []).append(key)


def prepare(mapper: Mapper[Any], placement: Placement) -> None:
    """Make flushes of `mapper` batch by database, and copy the rows of a reference table."""
    sort_by_database(mapper)
    if not isinstance(placement.binding, ReferenceTable):
        return
    if any(relationship.post_update for relationship in mapper.relationships):
        what = f"{mapper} is a reference table with a post_update relationship"
        raise CrossShardError("R308", what, fix="remove post_update from the relationship")
    if not event.contains(mapper, "after_insert", _copy_inserted):
        event.listen(mapper, "after_insert", _copy_inserted)
        event.listen(mapper, "before_update", _note_change)
        event.listen(mapper, "after_update", _copy_updated)
        event.listen(mapper, "after_delete", _copy_deleted)


def _copy_inserted(mapper: Mapper[Any], connection: Connection, instance: Any) -> None:
    _copy(mapper, connection, instance, mapper.primary_key_from_instance(instance), None)


def _note_change(_mapper: Mapper[Any], _connection: Connection, instance: Any) -> None:
    # Afterwards, an attribute that was set to an SQL expression no longer looks changed.
    flushing: Any = getattr(object_session(instance), "_flush_routing", None)
    if flushing is not None and _is_changed(instance):
        flushing.changed.add(instance._sa_instance_state)


def _is_changed(instance: Any) -> bool:
    session: Any = object_session(instance)
    return bool(session.is_modified(instance, include_collections=False))


def _copy_updated(mapper: Mapper[Any], connection: Connection, instance: Any) -> None:
    flushing: Any = getattr(object_session(instance), "_flush_routing", None)
    state = instance._sa_instance_state
    if flushing is not None and (state in flushing.changed or _is_changed(instance)):
        new = mapper.primary_key_from_instance(instance)
        _copy(mapper, connection, instance, new, state.key[1])


def _copy_deleted(mapper: Mapper[Any], connection: Connection, instance: Any) -> None:
    _copy(mapper, connection, instance, None, instance._sa_instance_state.key[1])


def _copy(mapper: Mapper[Any], connection: Connection, instance: Any, key: Any, old: Any) -> None:
    flushing: Any = getattr(object_session(instance), "_flush_routing", None)
    binding = flushing.binding(mapper) if flushing is not None else None
    # The listeners stay with the mapper; another map may bind it otherwise.
    if isinstance(binding, ReferenceTable):
        others = [flushing.connection(name) for name in binding.databases[1:]]
        tables = [table for table in mapper.tables if isinstance(table, Table)]
        copy_row(tables, key, old, connection, others)
