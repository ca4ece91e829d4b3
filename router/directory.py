"""The table of a directory keyspace: which shard has which key.

::

    router_directory (keyspace, key_hex, shard), primary key (keyspace, key_hex)

A key is stored as the hexadecimal digits of its canonical form, which no collation can
confuse.  A placement is written in a short transaction of its own and then read back in
another one: whoever comes first wins, and everyone else learns where the key went.  So
two workers never place one key differently, whatever the isolation level.

Placements are remembered by each process, within bounds.  They change only when keys
are moved; ``lookup(keys, fresh=True)`` asks the table and corrects what is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

from sqlalchemy import Column, MetaData, String, Table, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeEngine

from router.hooks.colour import pause
from router.shardmap.functions.protocol import Key
from router.shardmap.keys import KeyValueError, encode

MAX_KEY_BYTES = 256
CACHE_SIZE = 100_000

_BATCH = 500
_ATTEMPTS = 5
_PAUSE = 0.05

_INSERT_IF_ABSENT: Mapping[str, Callable[[Table], Insert]] = {
    "postgresql": lambda table: postgresql.insert(table).on_conflict_do_nothing(),
    "sqlite": lambda table: sqlite.insert(table).on_conflict_do_nothing(),
    # Not INSERT IGNORE, which turns every other error into a warning as well.
    "mysql": lambda table: mysql.insert(table).on_duplicate_key_update(shard=table.c.shard),
    "mariadb": lambda table: mysql.insert(table).on_duplicate_key_update(shard=table.c.shard),
}


def _ascii(length: int) -> TypeEngine[str]:
    """Return text whose bytes decide: MySQL's usual collations ignore case."""
    exact = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


def directory_table(metadata: MetaData, name: str = "router_directory") -> Table:
    """Describe the table of all directories of one database."""
    return Table(
        name,
        metadata,
        Column("keyspace", _ascii(64), primary_key=True),
        Column("key_hex", _ascii(2 * MAX_KEY_BYTES), primary_key=True),
        Column("shard", _ascii(64), nullable=False),
    )


class DirectoryTable:
    """The directory of one keyspace, in a database: a `DirectoryStore`.

    It can be shared by all threads of a process; a process should have one for each
    directory, since what it remembers is its own.

    Parameters
    ----------
    engine:
        The database of the directory.  Connections are taken from its pool for the
        length of one statement, beside those of any session.
    keyspace:
        The keyspace whose keys are placed.
    cache_size:
        How many placements are remembered; the least recently used are forgotten.

    Raises
    ------
    ValueError
        If the database has no statement that inserts a row unless it is there.
    """

    def __init__(self, engine: Engine, keyspace: str, *, cache_size: int = CACHE_SIZE) -> None:
        if engine.dialect.name not in _INSERT_IF_ABSENT:
            known = ", ".join(_INSERT_IF_ABSENT)
            raise ValueError(f"a directory lives in {known}, not in {engine.dialect.name}")
        self.keyspace = keyspace
        self._engine = engine
        self._table = directory_table(MetaData())
        self._cache = _Cache(cache_size)

    def create(self) -> None:
        """Create the table unless it is there."""
        self._table.create(self._engine, checkfirst=True)

    def lookup(self, keys: Iterable[Key], *, fresh: bool = False) -> Mapping[Key, str]:
        """Return the shards of those of `keys` that have been placed.

        Parameters
        ----------
        fresh:
            Ask the table even for what is remembered, and correct that.

        Raises
        ------
        KeyValueError
            If a key is longer than the table can hold.
        """
        wanted = {encode(key).hex(): key for key in keys}
        for key_hex in wanted:
            _check_length(key_hex)
        if fresh:
            self._cache.forget(wanted)
        found = self._cache.get(wanted)
        unknown = [key_hex for key_hex in wanted if key_hex not in found]
        if unknown:
            read = self._read(unknown)
            self._cache.put(read)
            found |= read
        return {wanted[key_hex]: shard for key_hex, shard in found.items()}

    def place(self, placements: Mapping[Key, str]) -> Mapping[Key, str]:
        """Place new keys as proposed unless already placed; return where each one is.

        Raises
        ------
        KeyValueError
            If a key is longer than the table can hold; then none is placed.
        """
        rows = [self._row(key, shard) for key, shard in placements.items()]
        if rows:
            # One order for everyone, so that two workers cannot wait for each other.
            self._insert(sorted(rows, key=lambda row: row["key_hex"]))
        return self.lookup(placements, fresh=True)

    def _row(self, key: Key, shard: str) -> dict[str, str]:
        key_hex = encode(key).hex()
        _check_length(key_hex)
        return {"keyspace": self.keyspace, "key_hex": key_hex, "shard": shard}

    def _insert(self, rows: Sequence[dict[str, str]]) -> None:
        statement = _INSERT_IF_ABSENT[self._engine.dialect.name](self._table)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._engine.begin() as connection:
                    connection.execute(statement, rows)
            except OperationalError:
                # A lost deadlock or a locked file; inserting again does no harm.
                if attempt == _ATTEMPTS:
                    raise
                pause(_PAUSE * attempt)
            else:
                return

    def _read(self, keys_hex: Sequence[str]) -> dict[str, str]:
        table = self._table
        found: dict[str, str] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(keys_hex), _BATCH):
                batch = keys_hex[start : start + _BATCH]
                rows = connection.execute(
                    select(table.c.key_hex, table.c.shard)
                    .where(table.c.keyspace == self.keyspace)
                    .where(table.c.key_hex.in_(batch))
                )
                found.update((row.key_hex, row.shard) for row in rows)
        return found


class _Cache:
    """A bounded memory of placements, for all threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._shards: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def get(self, keys_hex: Iterable[str]) -> dict[str, str]:
        with self._lock:
            known = [key_hex for key_hex in keys_hex if key_hex in self._shards]
            for key_hex in known:
                self._shards.move_to_end(key_hex)
            return {key_hex: self._shards[key_hex] for key_hex in known}

    def put(self, placed: Mapping[str, str]) -> None:
        with self._lock:
            for key_hex, shard in placed.items():
                self._shards[key_hex] = shard
                self._shards.move_to_end(key_hex)
            while len(self._shards) > self._size:
                self._shards.popitem(last=False)

    def forget(self, keys_hex: Iterable[str]) -> None:
        with self._lock:
            for key_hex in keys_hex:
                self._shards.pop(key_hex, None)


def _check_length(key_hex: str) -> None:
    if len(key_hex) > 2 * MAX_KEY_BYTES:
        raise KeyValueError(
            f"a directory holds keys of at most {MAX_KEY_BYTES} bytes, got {len(key_hex) // 2}"
        )
