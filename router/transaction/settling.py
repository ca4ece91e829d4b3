"""Committing or rolling back a branch whose verdict is known, on a connection of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc

from router.transaction.listing import Listed, prepared
from router.transaction.protocol import Verdict
from router.transaction.reaching import connected
from router.transaction.refusals import XAER_NOTA, code_of, is_gone

_NO_SUCH_THREAD = 1094

_SECONDS = 5.0
_PAUSE_SECONDS = 0.1


Pause = Callable[[float], None]


def settle(engine: Engine, listed: Listed, verdict: Verdict, pause: Pause) -> None:
    """Commit a branch or roll it back; nothing happens if somebody else has.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        The database refuses, or is lost.
    """
    finish = _SETTLE[engine.dialect.name]
    connected(engine, lambda connection: finish(connection, listed, verdict, pause), "AUTOCOMMIT")


def _postgresql(connection: Connection, listed: Listed, verdict: Verdict, pause: Pause) -> None:
    del pause
    verb = "COMMIT" if verdict is Verdict.COMMIT else "ROLLBACK"
    try:
        connection.exec_driver_sql(f"{verb} PREPARED '{listed.branch.gid}'")
    except sa_exc.DBAPIError as error:
        if not is_gone(error):
            raise


def _mysql(connection: Connection, listed: Listed, verdict: Verdict, pause: Pause) -> None:
    verb = "COMMIT" if verdict is Verdict.COMMIT else "ROLLBACK"
    statement = f"XA {verb} {listed.branch.xid(listed.connection)}"
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            connection.exec_driver_sql(statement)
        except sa_exc.DBAPIError as error:
            if is_gone(error):
                return
            unknown = code_of(error) == XAER_NOTA
            if unknown and listed not in prepared(connection):
                return
            if not unknown or time.monotonic() > deadline:
                raise
        else:
            return
        # Who prepared it is still connected, and only that connection can settle it.
        _disconnect(connection, listed.connection)
        pause(_PAUSE_SECONDS)


def _disconnect(connection: Connection, thread: int) -> None:
    try:
        connection.exec_driver_sql(f"KILL {thread}")
    except sa_exc.DBAPIError as error:
        if code_of(error) != _NO_SUCH_THREAD:
            raise


_SETTLE: Mapping[str, Callable[[Connection, Listed, Verdict, Pause], None]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
}
