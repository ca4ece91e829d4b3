"""Ends connections of aiosqlite that are not to be used again.

SQLAlchemy closes them in a task of its own and, when cancelled, also stops their thread.  Whatever
is awaited of a connection whose thread has ended, its closing above all, never comes.  Here the
thread is stopped at once, and only once.  And SQLite keeps a connection, its transaction and its
locks after it was closed, for as long as a cursor of an ``executemany()`` is there, which whoever
keeps the error keeps, too; so it rolls back before.
Leans on `Dialect.do_terminate`, on `_connection` of SQLAlchemy's asyncio connections, and on
`stop()`, `_running`, `_connection` and `_tx` of aiosqlite's.  Checked against SQLAlchemy 2.0.40,
which does not terminate them but closes them, and 2.1.9; and aiosqlite 0.22.1.
"""

from __future__ import annotations

import asyncio
from typing import Any

from router.hooks.colour import await_only, in_greenlet


def install(dialect: Any) -> None:
    """Let a `dialect` of aiosqlite end each connection once."""
    if dialect.driver == "aiosqlite":
        dialect.do_terminate = _terminate


def _terminate(connection: Any) -> None:
    raw = connection._connection
    if not raw._running:
        return
    if raw._connection is not None:
        raw._tx.put_nowait((None, raw._connection.rollback))
    # Closes in the thread, after what the thread has been given before.
    closed = raw.stop()
    if closed is not None and in_greenlet():
        await_only(_until(closed))


async def _until(closed: asyncio.Future[Any]) -> None:
    """Wait for `closed`; a task that is cancelled meanwhile is so where it waits next.

    A pool that is interrupted here would go on with a connection that is none any more.
    """
    cancelled = False
    while not closed.done():
        try:
            await asyncio.wait([closed])
        except asyncio.CancelledError:
            cancelled = True
    task = asyncio.current_task()
    if cancelled and task is not None:
        # As often as before: time limits and groups of tasks count.
        task.uncancel()
        task.cancel()
