"""Stops what a driver's connection is doing, from another thread, and tells what it is doing.

Leans on what drivers offer: `cancel_safe` (psycopg), `cancel` (psycopg2), `interrupt`
(sqlite3), `thread_id` (MySQL), `fileno` and PyMySQL's `_sock`, on `transaction_status` and
`backend_pid` of psycopg's `pgconn`, on `_connection` of the asyncio adapters, and on SQLAlchemy's
`Pool._invoke_creator` for a connection beyond the pool's limit and `Connection._dbapi_connection`.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

CANCEL_SECONDS = 3.0

_IDLE = 0
_ACTIVE = 1
_INERROR = 3


class Backend(NamedTuple):
    """The process of PostgreSQL behind a connection, and whether it executes a statement."""

    pid: int
    is_active: bool


def cancel(engine: Engine, connection: Any) -> None:
    """Ask the database to stop what `connection` executes; errors do not matter."""
    # Whether it helped shows in the call that is to end; if not, the connection is cut.
    with contextlib.suppress(Exception):
        if hasattr(connection, "cancel_safe"):
            connection.cancel_safe(timeout=CANCEL_SECONDS)
        elif hasattr(connection, "cancel"):
            connection.cancel()
        elif hasattr(connection, "interrupt"):
            connection.interrupt()
        elif hasattr(connection, "thread_id"):
            _kill(engine, connection.thread_id())


def _kill(engine: Engine, thread: int) -> None:
    pool: Any = engine.pool
    other = pool._invoke_creator(None)
    try:
        other.cursor().execute(f"KILL QUERY {int(thread)}")
    finally:
        other.close()


def sever(connection: Any) -> None:
    """Cut the network connection, so that a driver waiting for it returns with an error."""
    with contextlib.suppress(Exception):
        if hasattr(connection, "fileno"):
            with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
        elif hasattr(connection, "_sock"):
            connection._sock.shutdown(socket.SHUT_RDWR)


def is_idle(connection: Any) -> bool:
    """Return whether `connection` is known to be in no transaction, so that ending is free."""
    return bool(_status(connection) == _IDLE)


def has_failed(connection: Any) -> bool:
    """Return whether the transaction of `connection` is known to be past saving."""
    return bool(_status(connection) == _INERROR)


def backend_of(connection: Connection) -> Backend | None:
    """Return what serves `connection`, which another thread may be using or closing.

    None if it is gone, or the driver does not say.
    """
    # Not `.connection`, which would connect again where that one was invalidated.
    private: Any = connection
    raw: Any = getattr(private._dbapi_connection, "dbapi_connection", None)
    try:
        status = _status(raw)
        return None if status is None else Backend(raw.info.backend_pid, status == _ACTIVE)
    except connection.dialect.loaded_dbapi.Error:
        return None


def _status(connection: Any) -> int | None:
    # Asked many times; `info` would make two objects each time.
    pgconn = getattr(getattr(connection, "_connection", connection), "pgconn", None)
    return None if pgconn is None else int(pgconn.transaction_status)
