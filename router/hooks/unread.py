"""Refuses a statement by which MySQL or MariaDB would lose rows that they are still sending.

PyMySQL, and what was made of it for asyncio, drop what is left of a result that is fetched as
it comes, as with ``yield_per``, when the same connection is sent another statement; they only
warn.  Leans on `_result.unbuffered_active` of their connections, and on `_connection` of
SQLAlchemy's cursors for asyncio.  Checked against PyMySQL 1.2.4, aiomysql 0.3.2, and SQLAlchemy
2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.errors import RoutingError

_DRIVERS = ("pymysql", "aiomysql", "asyncmy")
_METHODS = ("do_execute", "do_executemany", "do_execute_no_params")

Method = Callable[..., Any]


def guard(dialect: Any) -> None:
    """Let a dialect refuse statements while rows of an earlier one are on their way."""
    if dialect.driver in _DRIVERS:
        for name in _METHODS:
            setattr(dialect, name, _guarded(getattr(dialect, name)))


def _guarded(method: Method) -> Method:
    def call(cursor: Any, statement: str, *rest: Any) -> Any:
        connection = getattr(cursor, "_connection", None) or cursor.connection
        unread = getattr(connection, "_result", None)
        if unread is not None and unread.unbuffered_active:
            raise RoutingError("R214", f"rows of an earlier statement would be lost by {statement}")
        return method(cursor, statement, *rest)

    return call
