"""What a database of PostgreSQL tells of waits, and what is told there to other processes.

Which backends serve one transaction, a process tells others by advisory locks: a shared lock on
(pid, tag) in each database.  They are held only while somebody has been waiting for a while.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from router.deadlocks.graph import Seen

SECONDS = 2
"""How long a database may take to answer: what others are told must not get old meanwhile."""

_WAITS = "SELECT DISTINCT pid, unnest(pg_blocking_pids(pid)) FROM pg_locks WHERE NOT granted"
_UNTELL = "SELECT pg_advisory_unlock_all()"
_TELL = "SELECT pg_try_advisory_lock_shared(%s, %s)"
# A backend whose transaction is younger than what was told of it serves another one by now.
_TOLD = (
    "SELECT told.pid, lock.objid::bigint FROM pg_locks lock "
    "JOIN pg_stat_activity teller ON teller.pid = lock.pid "
    "JOIN pg_stat_activity told ON told.pid = lock.classid::bigint "
    "WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND told.xact_start <= teller.query_start"
)
_BRIEFLY = f"SELECT set_config('statement_timeout', '{SECONDS}s', false)"
_CANCEL = "SELECT pg_cancel_backend(%s)"


class Witness:
    """One connection, beside the pool, which may be used up by those who wait."""

    def __init__(self, engine: Engine) -> None:
        self._pool = engine.pool.recreate()
        self._connection = self._pool.connect()
        try:
            self._execute(_BRIEFLY)
            self._connection.commit()
        except BaseException:
            self.close()
            raise

    def look(self, tags: Mapping[int, int]) -> Seen:
        """Tell the `tags` of this process's backends, by pid, and return what there is."""
        self._execute(_UNTELL)
        for pid, tag in tags.items():
            self._execute(_TELL, pid, tag)
        told = {int(pid): int(tag) for pid, tag in self._execute(_TOLD)}
        waits = frozenset((int(pid), int(blocker)) for pid, blocker in self._execute(_WAITS))
        # What PostgreSQL shows of others stands still within a transaction.
        self._connection.rollback()
        return Seen(waits, {**told, **tags})

    def cancel(self, pid: int) -> None:
        """Stop what a backend does."""
        self._execute(_CANCEL, pid)
        self._connection.rollback()

    def close(self) -> None:
        """Take back what was told."""
        with contextlib.suppress(Exception):
            self._connection.invalidate()
        self._pool.dispose()

    def _execute(self, statement: str, *values: int) -> list[Any]:
        cursor: Any = self._connection.cursor()
        try:
            cursor.execute(statement, values)
            return list(cursor.fetchall())
        finally:
            cursor.close()
