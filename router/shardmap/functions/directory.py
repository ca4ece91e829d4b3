"""``directory``: a table says which shard has which key.

Keys that are not in it yet belong where `place` says, so that reading one that does
not exist writes nothing; placing is left to whoever inserts rows, by `shard_of_new`.
The function itself does no I/O: it asks a `DirectoryStore`, attached after loading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field

from router.shardmap.findings import suggestion
from router.shardmap.functions.building import (
    Complaint,
    DescribedFunction,
    OptionsError,
    Site,
    TypedFunction,
)
from router.shardmap.functions.protocol import DirectoryStore, Key, ShardingFunction
from router.shardmap.keytypes import KeyType
from router.shardmap.model import Keyspace, ShardedKeyspace, ShardMap, frozen
from router.shardmap.strict import Name, Strict, parse_options


class DirectoryOptions(Strict):
    """Options of `directory`."""

    database: Name = Field(description="the database that holds the directory's table")
    place: dict[str, Any] = Field(
        default_factory=lambda: {"function": "hash"},
        description="the sharding function that proposes where new keys go",
    )


@dataclass(frozen=True, slots=True)
class DirectoryFunction:
    """Maps a key to where the store has it, or else to where `place` would put it."""

    database: str
    place: ShardingFunction
    store: DirectoryStore | None = field(default=None, repr=False, compare=False)

    def shard_of(self, key: Key) -> str:
        """Return where `key` is or would be placed; place nothing.

        Raises
        ------
        NoShardError
            If the key was not placed and `place` has no shard for it.
        """
        return self.shards_of([key])[key]

    def shards_of(self, keys: Iterable[Key]) -> Mapping[Key, str]:
        """Return the shard of each key with a single question to the store."""
        wanted = list(dict.fromkeys(keys))
        placed = self._opened().lookup(wanted)
        return {key: placed.get(key) or self.place.shard_of(key) for key in wanted}

    def shard_of_new(self, keys: Iterable[Key]) -> Mapping[Key, str]:
        """Place those of `keys` that have no place yet, and return where each one is now.

        Raises
        ------
        NoShardError
            If `place` has no shard for one of the new keys; then none is placed.
        """
        wanted = list(dict.fromkeys(keys))
        store = self._opened()
        placed = dict(store.lookup(wanted))
        new = {key: self.place.shard_of(key) for key in wanted if key not in placed}
        return placed | dict(store.place(new)) if new else placed

    def with_store(self, store: DirectoryStore) -> DirectoryFunction:
        """Return the same function over `store`."""
        return replace(self, store=store)

    def why_not(self, types: tuple[KeyType, ...]) -> str:
        """Refuse what `place` refuses."""
        return self.place.why_not(types) if isinstance(self.place, TypedFunction) else ""

    def describe(self) -> str:
        """Return the database of the directory and how new keys are placed."""
        place = self.place
        how = place.describe() if isinstance(place, DescribedFunction) else type(place).__name__
        return f"directory in {self.database}; new keys by {how}"

    def _opened(self) -> DirectoryStore:
        if self.store is None:
            raise RuntimeError("the directory has no store: attach one with open_directories()")
        return self.store


def open_directories(
    shard_map: ShardMap, open_store: Callable[[str, str], DirectoryStore]
) -> ShardMap:
    """Return `shard_map` with ``open_store(keyspace, database)`` in each of its directories."""

    def opened(keyspace: Keyspace) -> Keyspace:
        if not isinstance(keyspace, ShardedKeyspace):
            return keyspace
        if not isinstance(keyspace.function, DirectoryFunction):
            return keyspace
        store = open_store(keyspace.name, keyspace.function.database)
        return replace(keyspace, function=keyspace.function.with_store(store))

    keyspaces = {name: opened(keyspace) for name, keyspace in shard_map.keyspaces.items()}
    return replace(shard_map, keyspaces=frozen(keyspaces))


def build(options: Mapping[str, Any], site: Site) -> DirectoryFunction:
    """Build the function, still without a store.

    Raises
    ------
    OptionsError
        If the database does not exist, or `place` is no function for new keys.
    """
    # The registry has this builder in its table, and builds `place` for it.
    from router.shardmap.functions.registry import build_function

    parsed = parse_options(DirectoryOptions, options)
    complaints: list[Complaint] = []
    if parsed.database not in site.databases:
        what = f"there is no database `{parsed.database}`"
        what += suggestion(parsed.database, site.databases)
        complaints.append(Complaint("R110", ("database",), what))
    if parsed.place.get("function") == "directory":
        what = "a directory cannot place the keys of another one"
        complaints.append(Complaint("R106", ("place", "function"), what))
    if complaints:
        raise OptionsError(complaints)
    try:
        place = build_function(parsed.place, site)
    except OptionsError as error:
        inner = [replace(c, path=("place", *c.path)) for c in error.complaints]
    else:
        return DirectoryFunction(parsed.database, place)
    raise OptionsError(inner)
