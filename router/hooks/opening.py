"""Opening a connection below asyncio, where a task may be cancelled meanwhile.

A pool knows a connection only after its "connect" events, which wait for the database too: one
that is interrupted before would stay open.  So it is opened in a task of its own, which is let
go on for a moment.
Leans on `Engine.raw_connection`, by which every connection of an engine comes from its pool; on
`Pool._pre_ping`, `._recycle`, `._invalidate_time` and `._pool`, a queue around one of asyncio's
with its `_queue`; and on `dbapi_connection`, `starttime`, `_soft_invalidate_time` and `info` of
what it holds.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from router.hooks.colour import begin, in_greenlet

LOOP = "loop"
"""In the `info` of a connection: the event loop that it belongs to."""


def install(engine: Engine) -> None:
    """Let no connection of `engine` be left open by a task that was cancelled."""
    private: Any = engine
    take = engine.raw_connection

    def raw_connection() -> PoolProxiedConnection:
        if in_greenlet() and not has_idle(engine.pool):
            return begin(take, lambda opened: opened.close())
        return take()

    private.raw_connection = raw_connection


def has_idle(pool: Any) -> bool:
    """Return whether the next connection of `pool` is one that is open, and stays so."""
    if not isinstance(pool, QueuePool) or pool._pre_ping or pool.checkedin() == 0:
        return False
    private: Any = pool._pool
    waiting = private._queue._queue
    # From which end they are taken, the pool has been told.
    return _is_open(pool, waiting[0]) and _is_open(pool, waiting[-1])


def _is_open(pool: Any, record: Any) -> bool:
    if record.dbapi_connection is None:
        return False
    started = record.starttime
    if max(pool._invalidate_time, record._soft_invalidate_time) > started:
        return False
    if pool._recycle > -1 and time.time() - started > pool._recycle:
        return False
    return record.info.get(LOOP) in (None, asyncio.get_running_loop())
