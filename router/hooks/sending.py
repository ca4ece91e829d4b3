"""Sending a statement without parameters and rows by the driver alone.

A commit over several databases is many small statements, for each of which SQLAlchemy's own
execution costs more than the server's.
Leans on `Dialect.do_execute_no_params`, `.is_disconnect`, `.loaded_dbapi`, on
`DBAPIError.instance`, and on `_connection` of the asyncio adapters (SQLAlchemy 2.0.40 and 2.1.9);
and on psycopg's `_exec_command`, by which it sends its own BEGIN and COMMIT, with the `lock` and
the `wait` of its connections (psycopg 3.2.13 and 3.3.9).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from router.hooks import unread
from router.hooks.colour import await_only
from router.hooks.driver import call_in_lane
from router.hooks.psycopg_waits import Begun
from router.lanes.lane import current_lane

Steps = Generator[None, None, None]
"""Work in steps.  After each but the last, an answer is awaited that others can be sent beside."""


def sends_ahead(connection: Connection) -> bool:
    """Return whether `sending` on `connection` has a step that does not wait."""
    dialect = connection.dialect
    return dialect.driver == "psycopg" and not dialect.is_async and current_lane() is None


def sending(connection: Connection, statement: str) -> Steps:
    """Execute `statement`; on psycopg it begins no transaction.

    The first step only sends it where `sends_ahead`; elsewhere there is one step.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        As `Connection.execute` does; a lost connection is invalidated.
    """
    raw: Any = connection.connection.dbapi_connection
    dialect: Any = connection.dialect
    try:
        if sends_ahead(connection):
            yield from _ahead(raw, statement)
        elif dialect.driver == "psycopg":
            kind = statement.partition("'")[0]
            call_in_lane(connection, kind, partial(_command, dialect.is_async, raw, statement))
        else:
            _by_cursor(connection, dialect, raw, statement)
    except dialect.loaded_dbapi.Error as error:
        raise _wrapped(connection, dialect, raw, statement, error) from error
    except BaseException:
        # Interrupted: what it was doing is not known.
        connection.invalidate()
        raise


def at_once(steps: Steps) -> None:
    """Take one step after the other."""
    for _ in steps:
        pass


def side_by_side(several: Sequence[Steps]) -> None:
    """Take the first step of all, and then the others: answers are waited for together.

    If this raises, an interruption for example, what has begun is closed.
    """
    try:
        for steps in several:
            next(steps, None)
        for steps in several:
            at_once(steps)
    finally:
        for steps in several:
            steps.close()


def _ahead(raw: Any, statement: str) -> Steps:
    with raw.lock:
        answer = raw._exec_command(statement)
        # What it waits for first is the answer or, rarely, room to send the rest.
        if next(answer, None) is not None:
            yield
            raw.wait(Begun(answer))


def _command(is_async: bool, raw: Any, statement: str) -> None:
    if is_async:
        await_only(_awaited(raw._connection, statement))
        return
    with raw.lock:
        raw.wait(raw._exec_command(statement))


async def _awaited(connection: Any, statement: str) -> None:
    async with connection.lock:
        await connection.wait(connection._exec_command(statement))


def _by_cursor(connection: Connection, dialect: Any, raw: Any, statement: str) -> None:
    if unread.has_unread(raw):
        # What is sent here ends a transaction, and with it its results.
        call_in_lane(connection, "rows", partial(unread.drop, raw))
    cursor = connection.connection.cursor()
    try:
        dialect.do_execute_no_params(cursor, statement)
    finally:
        cursor.close()


def _wrapped(
    connection: Connection, dialect: Any, raw: Any, statement: str, error: Any
) -> DBAPIError:
    lost = dialect.is_disconnect(error, raw, None)
    if lost:
        connection.invalidate(error)
    wrapped: Any = DBAPIError.instance(
        statement,
        None,
        error,
        dialect.loaded_dbapi.Error,
        connection_invalidated=lost,
        dialect=dialect,
    )
    return wrapped  # type: ignore[no-any-return]
