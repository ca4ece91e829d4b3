"""Ways to say where a statement goes: `on_shard`, and what loaders pass along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm.interfaces import UserDefinedOption

from router.hooks.mappers import identity_token_of, loaded_from, loading_parent


class OnShard(UserDefinedOption):
    """Sends a statement, and the relationship loads of what it loads, to one shard."""

    propagate_to_loaders = True

    def __init__(self, shard: str) -> None:
        super().__init__(shard)


def on_shard(shard: str) -> OnShard:
    """Return a statement option that names the shard, written ``keyspace/shard``.

    >>> session.scalars(select(Order).options(on_shard("shop/s0")))

    Lazy and eager loads of relationships within the keyspace go there, too.
    """
    return OnShard(shard)


def hinted_shard(statement: Any) -> str | None:
    """Return the shard that an `on_shard` option of `statement` names."""
    for option in getattr(statement, "_with_options", ()):
        if isinstance(option, OnShard):
            return str(option.payload)
    return None


def near_shard(
    statement: Any, execution_options: Mapping[str, Any], needs_token: Any
) -> str | None:
    """Return the shard that a loader works for, where it tells rows apart.

    A row whose primary key does not name its shard has its related rows on its own shard:
    only there do foreign keys to it mean it.
    """
    state = loaded_from(execution_options)
    if state is not None:
        key = state.key
        own = key[2] if key is not None else state.identity_token
        return own if isinstance(own, str) else None
    token = identity_token_of(execution_options)
    if not isinstance(token, str):
        return None
    parent = loading_parent(statement)
    return token if parent is None or needs_token(parent.class_) else None
