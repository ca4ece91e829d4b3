"""An identity map in which only rows that need it carry their shard.

SQLAlchemy gives one identity token to all rows of a statement.  Rows whose primary key
cannot occur on two shards (unsharded and reference tables, keys that contain the shard
key) lose it here, so that they are one object whichever shard they were loaded from.

Leans on the methods of `sqlalchemy.orm.identity._WeakInstanceDict` (`WeakInstanceDict` in 2.0)
that it overrides.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import identity

_Base: Any = getattr(identity, "_WeakInstanceDict", None) or getattr(  # noqa: B009
    identity, "WeakInstanceDict"
)

NeedsToken = Callable[[type], bool]
"""Returns whether rows of a mapped base class are told apart by their shard."""


class ShardIdentityMap(_Base):  # type: ignore[misc]
    """Drops the token of keys whose class does not need one."""

    _needs_token: NeedsToken

    def _plain(self, key: Any) -> Any:
        if key[2] is None or self._needs_token(key[0]):
            return key
        return (key[0], key[1], None)

    def __contains__(self, key: Any) -> bool:
        return bool(super().__contains__(self._plain(key)))

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._plain(key))

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the object of `key`, or `default`."""
        return super().get(self._plain(key), default)

    def fast_get_state(self, key: Any) -> Any:
        """Return the state of `key`, or None."""
        return super().fast_get_state(self._plain(key))

    def _add_unpresent(self, state: Any, key: Any) -> None:
        plain = self._plain(key)
        if plain is not key:
            state.key = plain
            state.identity_token = None
        super()._add_unpresent(state, plain)


def tell_shards_apart(identity_map: Any, needs_token: NeedsToken) -> None:
    """Turn a session's own identity map into one that drops tokens where it should.

    Until a statement carries a token there is nothing to drop, and SQLAlchemy's own map,
    which is faster, does.
    """
    if type(identity_map) is _Base:
        identity_map.__class__ = ShardIdentityMap
        identity_map._needs_token = needs_token
