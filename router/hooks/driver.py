"""Makes the driver calls of an engine wait in lanes, where they are made in one.

SQLAlchemy looks up the methods of a dialect each time on the engine's dialect, so they can be
replaced there; unlike the events `do_execute` and the like, that leaves the events to others.
Leans on `Dialect.do_execute`, `.do_executemany`, `.do_execute_no_params`, `.do_rollback`,
`.do_commit`, `.do_close`, `.do_terminate`, on `cursor.connection` of drivers, and on
`Pool._pre_ping`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from greenlet import getcurrent
from sqlalchemy import Connection, Engine

from router.hooks import (
    cancelling,
    opening,
    psycopg_cancels,
    psycopg_waits,
    terminating,
    unread,
)
from router.hooks.colour import among_tasks, in_greenlet
from router.lanes.lane import Lane, current_lane
from router.lanes.link import Link
from router.lanes.pace import Measured, Pace
from router.lanes.workers import Workers

_links: WeakKeyDictionary[Any, Link] = WeakKeyDictionary()

_STATEMENTS = ("do_execute", "do_executemany")
_BARE_STATEMENTS = ("do_execute_no_params",)
_ENDS = ("do_rollback", "do_commit")
_CLOSES = ("do_close", "do_terminate")
_CLEANING = ("XA END", "XA ROLLBACK", "ROLLBACK")
_NAMING = ("XA ", "PREPARE TRANSACTION", "COMMIT PREPARED", "ROLLBACK PREPARED")

Method = Callable[..., Any]


def install(engine: Engine, workers: Workers, pace: Pace | None = None) -> None:
    """Let calls to the database of `engine` wait in lanes."""
    dialect = engine.dialect
    unread.guard(dialect)
    terminating.install(dialect)
    if dialect.is_async:
        opening.install(engine)
        psycopg_cancels.install(dialect)
        return
    link = _links[dialect] = Link(
        workers,
        pace or Measured(),
        cancel=partial(cancelling.cancel, engine),
        sever=cancelling.sever,
        # Its files are near, and its connections stay with their thread.
        threaded=dialect.name != "sqlite",
        drive=psycopg_waits.drive if dialect.driver == "psycopg" else None,
    )
    _replace(dialect, _STATEMENTS, partial(_statement, link))
    _replace(dialect, _BARE_STATEMENTS, partial(_bare_statement, link))
    _replace(dialect, _ENDS, partial(_end, link))
    _replace(dialect, _CLOSES, partial(_close, link))


def set_pace(engine: Engine, pace: Pace) -> None:
    """Decide in another way which calls to the database of `engine` go to threads."""
    _links[engine.dialect].pace = pace


def forget(engine: Engine) -> None:
    """Forget what threads were doing: in a process that was forked, there are none."""
    link = _links.get(engine.dialect)
    if link is not None:
        link.busy.clear()


def connect(engine: Engine) -> Connection:
    """Return ``engine.connect()``; in a lane, others go on if that has to wait."""
    lane, link = current_lane(), _links.get(engine.dialect)
    if lane is None or link is None or _has_idle(engine.pool):
        return engine.connect()
    found: Connection = lane.wait(engine.connect, link, "connect", undo=_discard)
    return found


def _discard(connection: Connection) -> None:
    """Close a connection itself: its engine may have been disposed of before it was opened."""
    connection.detach()
    connection.close()


def is_beside_others() -> bool:
    """Return whether other calls of the same session may go on while this one waits."""
    return current_lane() is not None or among_tasks.get()


def opens_below_asyncio(engine: Engine) -> bool:
    """Return whether connecting, below asyncio, would have to open a connection."""
    return engine.dialect.is_async and in_greenlet() and not opening.has_idle(engine.pool)


def call_in_lane(connection: Connection, key: str, call: Callable[[], Any]) -> Any:
    """Make a call of the driver itself; in a lane, others go on if that has to wait."""
    lane, link = current_lane(), _links.get(connection.dialect)
    if lane is None or link is None:
        return call()
    raw = connection.connection.dbapi_connection
    return lane.wait(call, link, key, connection=raw)


def _has_idle(pool: Any) -> bool:
    idle = getattr(pool, "checkedin", None)
    return idle is not None and not pool._pre_ping and idle() > 0


def _replace(dialect: Any, names: tuple[str, ...], wrap: Callable[[Method], Method]) -> None:
    for name in names:
        setattr(dialect, name, wrap(getattr(dialect, name)))


def _statement(link: Link, method: Method) -> Method:
    # No `*rest`, which would cost every statement of every session more than all else here.
    def call(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
        if type(getcurrent()) is not Lane:
            return method(cursor, statement, parameters, context)
        made = partial(method, cursor, statement, parameters, context)
        return _in_lane(link, cursor, statement, made)

    return call


def _bare_statement(link: Link, method: Method) -> Method:
    def call(cursor: Any, statement: str, context: Any = None) -> Any:
        if type(getcurrent()) is not Lane:
            return method(cursor, statement, context)
        return _in_lane(link, cursor, statement, partial(method, cursor, statement, context))

    return call


def _in_lane(link: Link, cursor: Any, statement: str, made: Callable[[], Any]) -> Any:
    lane: Any = getcurrent()
    raw = getattr(cursor, "connection", None)
    cleans = statement.startswith(_CLEANING)
    # Those that name a transaction are each a statement of its own.
    key = statement.partition("'")[0] if statement.startswith(_NAMING) else statement
    return lane.wait(made, link, key, connection=raw, cleans=cleans)


def _end(link: Link, method: Method) -> Method:
    def call(connection: Any) -> Any:
        lane = getcurrent()
        if type(lane) is not Lane:
            return method(connection)
        made = partial(method, connection)
        raw = getattr(connection, "dbapi_connection", connection)
        if cancelling.is_idle(raw):
            return made()
        return lane.wait(made, link, method.__name__, connection=raw, cleans=True)

    return call


def _close(link: Link, method: Method) -> Method:
    def call(connection: Any) -> None:
        # Closed under the hands of a thread, a driver may crash the process.
        link.when_free(connection, partial(method, connection))

    return call
