"""What a statement meets besides its own text: hints, partitions, directories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.route.outside import outside_partition
from router.route.secondary import Secondary
from router.route.target import Destination
from router.shardmap.functions.protocol import Key
from router.shardmap.model import Scatter, ShardedKeyspace

if TYPE_CHECKING:
    from router.route.only import Only

Locate = Callable[[ShardedKeyspace, Key], str]
"""Returns the shard of a key; raises `NoShardError` where there is none."""


Seek = Callable[[Secondary, Sequence[Key]], "frozenset[str] | None"]
"""Returns the shards of some values of a secondary key; None: they cannot be told."""


def nowhere_known(secondary: Secondary, keys: Sequence[Key]) -> frozenset[str] | None:
    """Look nothing up."""
    del secondary, keys
    return None


def by_function(keyspace: ShardedKeyspace, key: Key) -> str:
    """Return the shard that the keyspace's own function gives `key`."""
    return keyspace.function.shard_of(key)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a statement meets besides its own text.

    `hint` is where the caller says that the statement goes.  `pinned` maps the keyspace of
    the session's partition to its only shard: what leaves it is refused.  `near` maps a
    keyspace to the shard that a loader works for: it is used where no key is known.
    `preferred` are databases already in use, from which a reference table is read first.
    `found` says that the rows of an UPDATE or DELETE have been found and locked already.
    `only` is the key of a guard: what is not proven to be about its rows alone is refused.
    """

    locate: Locate = by_function
    seek: Seek = nowhere_known
    hint: Destination | None = None
    pinned: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, str] = field(default_factory=dict)
    preferred: Sequence[str] = ()
    scatter: Scatter | None = None
    found: bool = False
    only: Only | None = None

    def check(self, keyspace: ShardedKeyspace, shards: frozenset[str]) -> frozenset[str]:
        """Return `shards`; raise `RoutingError` if they leave the session's partition."""
        pin = self.pinned.get(keyspace.name)
        if pin is not None and not shards <= {pin}:
            outside = ", ".join(sorted(keyspace.shard_id(shard) for shard in shards - {pin}))
            raise outside_partition(f"this would reach {outside}", self.pinned)
        return shards

    def unknown(self, keyspace: ShardedKeyspace) -> frozenset[str]:
        """Return every shard that a row of unknown key may be on."""
        only = self.pinned.get(keyspace.name) or self.near.get(keyspace.name)
        return frozenset((only,)) if only is not None else frozenset(keyspace.shards)
