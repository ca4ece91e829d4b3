"""What a sharding function is: a pure mapping from keys to shard names.

Optional abilities are protocols of their own, looked for with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol, runtime_checkable
from uuid import UUID

KeyValue = int | str | Decimal | UUID | date | datetime | bytes
"""A normalised key value: see `router.shardmap.keys`."""

Key = tuple[KeyValue, ...]
"""The normalised values of a row's shard key columns, in the order of the map."""


class NoShardError(LookupError):
    """The function gives this key no shard (a range or a list that does not cover it)."""


class ShardingFunction(Protocol):
    """Maps every key to one shard, always the same."""

    def shard_of(self, key: Key) -> str:
        """Return the name of the shard of `key`; raise `NoShardError` if it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of an interval of key values."""

    value: KeyValue
    inclusive: bool


@runtime_checkable
class OrderedFunction(Protocol):
    """A function that keeps neighbouring keys together, so that ranges can be pruned."""

    def shards_between(self, low: Bound | None, high: Bound | None) -> frozenset[str]:
        """Return every shard that may hold a key between the bounds; None is unbounded."""
        ...


class DirectoryStore(Protocol):
    """Where a directory function keeps key -> shard; implementations do the I/O."""

    def lookup(self, keys: Iterable[Key]) -> Mapping[Key, str]:
        """Return the shards of those of `keys` that have been placed."""
        ...

    def place(self, placements: Mapping[Key, str]) -> Mapping[Key, str]:
        """Place new keys as proposed unless already placed; return where each one is."""
        ...
