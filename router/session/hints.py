"""Ways for a statement to say where it goes."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm.interfaces import UserDefinedOption


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
