"""The shards of objects that are loaded, refreshed or merged, and of what they refer to.

Where a primary key does not name its shard, a foreign key to it means the row on the shard
of the row that holds the foreign key.  So a loader that follows one looks only there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty

from router.errors import CrossShardError, RoutingError
from router.hooks.loaders import (
    is_many_to_one,
    loaded_for,
    loading_relationship,
    refreshed,
    token_of,
)
from router.route.binds import ShardedTable, UnshardedTable
from router.session.hints import OnShard, scatter_option
from router.shardmap.model import Scatter, ShardedKeyspace

if TYPE_CHECKING:
    from router.session.routing import Routing


class Loading:
    """What loaders of one session need to know."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring

    # -- loaders ---------------------------------------------------------------------------

    def near(self, statement: Any, options: Mapping[str, Any]) -> str | None:
        """Return the only shard where a loader finds what it looks for, None if keys say it."""
        relationship = loading_relationship(statement)
        parent = loaded_for(options)
        if parent is not None:
            return self._near_parent(parent, relationship)
        state = refreshed(options)
        if state is not None:
            return self._known_shard(state) if self._is_told_apart(state.mapper) else None
        token = token_of(statement, options)
        if not isinstance(token, str) or not self._wiring.has_shards:
            return None
        if relationship is None or self._is_told_apart(relationship.parent):
            return token
        return token if self._follows_local_key(relationship) else None

    def refuse_ambiguous(self, statement: Any) -> None:
        """Raise if `statement` follows a key that means a different row on every shard."""
        relationship = loading_relationship(statement)
        if relationship is not None and self._follows_local_key(relationship):
            what = f"{relationship} refers to a primary key that several shards may have"
            fix = "load it lazily, or name the shard with on_shard()"
            raise CrossShardError("R306", what, fix=fix)

    def _near_parent(
        self, parent: InstanceState[Any], relationship: RelationshipProperty[Any] | None
    ) -> str | None:
        if self._is_told_apart(parent.mapper):
            return self._known_shard(parent)
        if relationship is not None and self._follows_local_key(relationship):
            return self.shard_of(parent)
        return None

    def _is_told_apart(self, mapper: Mapper[Any]) -> bool:
        return self._wiring.needs_token(mapper.base_mapper.class_)

    def _follows_local_key(self, relationship: RelationshipProperty[Any]) -> bool:
        if not is_many_to_one(relationship) or not self._is_told_apart(relationship.mapper):
            return False
        binding = self._wiring.binds.of_mapper(relationship.mapper.base_mapper)
        remote = {column.name for column in relationship.remote_side}
        return isinstance(binding, ShardedTable) and not remote.issuperset(binding.key)

    def _known_shard(self, state: InstanceState[Any]) -> str | None:
        found = self.shard_of(state)
        if found is None and state.key is not None:
            what = f"the shard of {state.mapper} with primary key {state.key[1]!r} is not known"
            raise RoutingError("R202", what, fix="load the object through the session first")
        return found

    # -- objects ---------------------------------------------------------------------------

    def shard_of(self, state: InstanceState[Any]) -> str | None:
        """Return the shard of an object as ``keyspace/shard``, or None if it is not known."""
        if state.key is not None and state.key[2] is not None:
            return str(state.key[2])
        placement = self._wiring.states.placement(state.mapper)
        if not isinstance(placement.binding, ShardedTable):
            return None
        first = placement.keys[0]
        identified = state.key is not None and first.in_primary_key is not None
        if not identified and None in first.raw(state):
            return None
        shard = self._wiring.states.shard(state, placement, self._routing.propose)
        return placement.binding.keyspace.shard_id(shard)

    def token_of_transient(self, state: Any) -> str | None:
        """Return the shard of an object about to be merged, if it needs and names one."""
        return self.shard_of(state) if self._is_told_apart(state.mapper) else None

    def check_partition(self, state: InstanceState[Any]) -> None:
        """Raise if an object that was loaded before lies outside the session's partition."""
        pins = self._routing.pins
        binding = self._wiring.states.placement(state.mapper).binding
        if isinstance(binding, UnshardedTable):
            pins.refuse(f"a row of {binding.table.fullname}")
        shard = self.shard_of(state)
        if isinstance(binding, ShardedTable) and shard is not None:
            pins.check(binding.keyspace, shard.partition("/")[2])

    # -- get() -----------------------------------------------------------------------------

    def shards_to_ask(
        self, mapper: Mapper[Any], ident: Any, options: Mapping[str, Any]
    ) -> list[str]:
        """Return the shards where `get()` looks for a row whose key does not name its shard."""
        named = self._named(options)
        if named is not None:
            return [named]
        binding = self._wiring.binds.of_mapper(mapper.base_mapper)
        if not isinstance(binding, ShardedTable):
            return []
        keyspace = binding.keyspace
        pins = self._routing.pins
        pin = pins.shards().get(keyspace.name)
        carried = _carried_shard(binding, mapper, ident)
        if carried is not None:
            pins.check(keyspace, carried)
            return [keyspace.shard_id(carried)]
        if pins:
            pins.check(keyspace, pin or "")
        elif self._scatter(keyspace, options) is Scatter.DENY:
            what = f"the primary key of {mapper.class_.__name__} does not name its shard"
            raise CrossShardError("R309", what, where=keyspace.where)
        return [keyspace.shard_id(one) for one in ([pin] if pin else keyspace.shards)]

    def _scatter(self, keyspace: ShardedKeyspace, options: Mapping[str, Any]) -> Scatter:
        own = scatter_option(None, options.get("execution_options") or {})
        return own or keyspace.scatter or self._wiring.shard_map.scatter

    def _named(self, options: Mapping[str, Any]) -> str | None:
        arguments = options.get("bind_arguments") or {}
        hint = self._routing.places.named(arguments, self._routing.propose)
        if hint is not None and hint.shard is not None:
            return hint.shard
        named = [one.payload for one in options.get("options") or () if isinstance(one, OnShard)]
        return str(named[0]) if named else None


def _carried_shard(binding: ShardedTable, mapper: Mapper[Any], ident: Any) -> str | None:
    """Return the shard that a primary key carries, None if it carries none."""
    for carried in binding.carried:
        at = [n for n, column in enumerate(mapper.primary_key) if column is carried.column]
        if isinstance(ident, dict):
            value = ident.get(mapper.get_property_by_column(carried.column).key)
        else:
            value = (ident if isinstance(ident, (tuple, list)) else (ident,))[at[0]] if at else None
        if at and isinstance(value, int):
            return carried.shard_of((value,))
    return None
