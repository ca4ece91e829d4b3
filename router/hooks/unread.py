"""Rows that MySQL or MariaDB are still sending: what they keep from being done, and their end.

PyMySQL, and what was made of it for asyncio, drop what is left of a result that is fetched as
it comes, as with ``yield_per``, when the same connection is sent another statement; they only
warn, and who fetches later is told that there are no more rows.  So another statement is refused,
and the end of the transaction drops the rows, of which later fetches tell.
Leans on `_result`, `.unbuffered_active`, `._finish_unbuffered_query` and
`._read_rowdata_packet_unbuffered` of their connections, and on `_connection` of SQLAlchemy's
cursors and connections for asyncio.  Checked against PyMySQL 1.2.4, aiomysql 0.3.2, and
SQLAlchemy 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from router.errors import RoutingError
from router.hooks.colour import await_only, in_greenlet

_DRIVERS = ("pymysql", "aiomysql", "asyncmy")
_METHODS = ("do_execute", "do_executemany", "do_execute_no_params")
_ENDS = ("do_commit", "do_rollback")
_SAVEPOINT_ENDS = ("do_rollback_to_savepoint", "do_release_savepoint")
_SHOWN = 60

Method = Callable[..., Any]


def guard(dialect: Any) -> None:
    """Let a dialect refuse statements while rows of an earlier one are on their way.

    The end of a transaction or savepoint drops them.
    """
    if dialect.driver not in _DRIVERS:
        return
    for names, wrap in ((_METHODS, _guarded), (_ENDS, _ending), (_SAVEPOINT_ENDS, _leaving)):
        for name in names:
            setattr(dialect, name, wrap(getattr(dialect, name)))


def has_unread(connection: Any) -> bool:
    """Return whether rows are on their way on a connection of a driver."""
    return _active(connection) is not None


def drop(connection: Any) -> None:
    """Read to its end what is on its way on a driver's connection, and let fetches say so."""
    result = _active(connection)
    if result is None:
        return
    is_async = hasattr(connection, "_connection")
    if not is_async:
        result._finish_unbuffered_query()
    elif in_greenlet():
        await_only(result._finish_unbuffered_query())
    else:
        return
    # One that is compiled takes no attributes.
    with suppress(AttributeError):
        result._read_rowdata_packet_unbuffered = _refuse_later if is_async else _refuse


def _active(connection: Any) -> Any:
    """Return the result of which rows are on their way, or None."""
    found = getattr(getattr(connection, "_connection", connection), "_result", None)
    return found if found is not None and found.unbuffered_active else None


def _refuse() -> None:
    raise RoutingError("R214", "the rest of the rows was dropped when the transaction ended")


async def _refuse_later() -> None:
    _refuse()


def _guarded(method: Method) -> Method:
    def call(cursor: Any, statement: str, *rest: Any) -> Any:
        if has_unread(getattr(cursor, "_connection", None) or cursor.connection):
            raise RoutingError(
                "R214", f"rows of an earlier one would be lost by {_brief(statement)}"
            )
        return method(cursor, statement, *rest)

    return call


def _brief(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _ending(method: Method) -> Method:
    def call(connection: Any) -> None:
        drop(getattr(connection, "dbapi_connection", connection))
        method(connection)

    # By which lanes tell calls apart.
    call.__name__ = method.__name__
    return call


def _leaving(method: Method) -> Method:
    def call(connection: Any, name: str) -> None:
        drop(connection.connection.dbapi_connection)
        method(connection, name)

    return call
