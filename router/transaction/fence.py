"""Asking a decider for its verdict, so that there is one from then on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc

from router.transaction import log
from router.transaction.protocol import Verdict
from router.transaction.reaching import UNREACHABLE, connected, read_committed

LOCK_SECONDS = 2
"""How long one question waits for a decider's transaction that is in flight."""

PATIENCE_SECONDS = 10.0
"""How long a coordinator asks before the transaction is in doubt."""

_PAUSE_SECONDS = 0.2

_LIMITS: Mapping[str, str] = {
    "postgresql": f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'",
    "mysql": f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}",
    "mariadb": f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}",
    "sqlite": f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}",
}
_BEFORE: Mapping[str, str] = {
    "mysql": "SELECT @@SESSION.innodb_lock_wait_timeout",
    "mariadb": "SELECT @@SESSION.innodb_lock_wait_timeout",
    "sqlite": "PRAGMA busy_timeout",
}
_AFTERWARDS: Mapping[str, str] = {
    "mysql": "SET SESSION innodb_lock_wait_timeout = {}",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = {}",
    "sqlite": "PRAGMA busy_timeout = {}",
}
"""The limit goes back with its connection to a pool, and may be the application's."""

_logger = logging.getLogger("router.transaction")


def fence(engine: Engine, gtid: str) -> Verdict | None:
    """Return the verdict on a transaction, which is ABORT if there was none before.

    None if it cannot be told yet: the decider cannot be reached, or its transaction is still
    in flight.
    """
    try:
        # Any stricter isolation fails on rows that it cannot see yet.
        level = read_committed(engine)
        return connected(engine, lambda connection: _ask(connection, gtid), level)
    except UNREACHABLE as error:
        _logger.info("transaction %s: no verdict yet: %s", gtid, type(error).__name__)
        return None


def patiently(
    engine: Engine, gtid: str, pause: Callable[[float], None], seconds: float = PATIENCE_SECONDS
) -> Verdict | None:
    """Ask again and again, for so many `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        verdict = fence(engine, gtid)
        if verdict is not None or time.monotonic() >= deadline:
            return verdict
        pause(_PAUSE_SECONDS)


def _ask(connection: Connection, gtid: str) -> Verdict | None:
    dialect = connection.dialect.name
    before = _limit(connection)
    try:
        with connection.begin():
            if dialect in _LIMITS:
                connection.exec_driver_sql(_LIMITS[dialect])
            log.record_abort(connection, gtid)
    except sa_exc.IntegrityError:
        with connection.begin():
            return log.read_verdict(connection, gtid)
    else:
        return Verdict.ABORT
    finally:
        if before is not None and not connection.invalidated:
            with connection.begin():
                connection.exec_driver_sql(_AFTERWARDS[dialect].format(before))


def _limit(connection: Connection) -> int | None:
    """Return for how long a connection waits for locks, in its server's unit, if it matters."""
    query = _BEFORE.get(connection.dialect.name)
    if query is None:
        return None
    with connection.begin():
        return int(connection.exec_driver_sql(query).scalar_one())
