"""Directories: keys are confirmed once per transaction, and new ones placed before they are used.

What a process remembers of a directory can be out of date, since another process may have
moved a key.  So the first use of a key in a transaction asks the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from router.directory import DirectoryTable
from router.engines import Engines
from router.errors import RoutingError
from router.shardmap.functions.directory import DirectoryFunction, open_directories
from router.shardmap.functions.protocol import Key, NoShardError
from router.shardmap.keytypes import KeyValueError
from router.shardmap.model import ShardedKeyspace, ShardMap


def attach(shard_map: ShardMap, engines: Engines) -> tuple[ShardMap, dict[str, DirectoryTable]]:
    """Return the map with its directories opened, and their tables by keyspace."""
    tables: dict[str, DirectoryTable] = {}

    def open_store(keyspace: str, database: str) -> DirectoryTable:
        tables[keyspace] = DirectoryTable(engines[database], keyspace)
        return tables[keyspace]

    return open_directories(shard_map, open_store), tables


class Directories:
    """The directories as one session sees them.

    Parameters
    ----------
    tables:
        The directories' tables, by keyspace.
    confirmed:
        Returns what the session's transaction has confirmed so far.
    """

    def __init__(
        self,
        tables: Mapping[str, DirectoryTable],
        confirmed: Callable[[], dict[tuple[str, Key], str]],
    ) -> None:
        self._tables = tables
        self._confirmed = confirmed

    def find(self, keyspace: ShardedKeyspace, key: Key) -> str:
        """Return the shard of `key`; raise `NoShardError` where it was never placed."""
        if keyspace.name not in self._tables:
            return keyspace.function.shard_of(key)
        found = self.confirm(keyspace, [key]).get(key)
        if found is None:
            raise NoShardError(f"the directory of {keyspace.name} does not have {key!r}")
        return found

    def propose(self, keyspace: ShardedKeyspace, key: Key) -> str:
        """Return the shard of `key`, or where it would be placed; place nothing."""
        try:
            return self.find(keyspace, key)
        except NoShardError:
            if keyspace.name not in self._tables:
                raise
            return cast("DirectoryFunction", keyspace.function).place.shard_of(key)

    def claim(self, keyspace: ShardedKeyspace, key: Key) -> str:
        """Return the shard of `key`, which is placed now unless it was before."""
        if keyspace.name not in self._tables:
            return keyspace.function.shard_of(key)
        return self.claim_all(keyspace, [key])[key]

    def claim_all(self, keyspace: ShardedKeyspace, keys: Iterable[Key]) -> Mapping[Key, str]:
        """Return the shards of `keys`; those that have none are placed."""
        function = cast("DirectoryFunction", keyspace.function)
        wanted = list(dict.fromkeys(keys))
        found = dict(self.confirm(keyspace, wanted))
        new = {key: function.place.shard_of(key) for key in wanted if key not in found}
        if new:
            placed = self._tables[keyspace.name].place(new)
            self._remember(keyspace, placed)
            found.update(placed)
        return found

    def confirm(self, keyspace: ShardedKeyspace, keys: Iterable[Key]) -> dict[Key, str]:
        """Return the shards of those of `keys` that have been placed, as the table says."""
        wanted = list(dict.fromkeys(keys))
        memory = self._confirmed()
        found = {
            key: memory[keyspace.name, key] for key in wanted if (keyspace.name, key) in memory
        }
        unknown = [key for key in wanted if key not in found]
        if unknown:
            try:
                read = self._tables[keyspace.name].lookup(unknown, fresh=True)
            except KeyValueError as error:
                raise RoutingError("R204", str(error), where=keyspace.where) from error
            self._remember(keyspace, read)
            found.update(read)
        return found

    def _remember(self, keyspace: ShardedKeyspace, placed: Mapping[Any, str]) -> None:
        self._confirmed().update({(keyspace.name, key): shard for key, shard in placed.items()})
