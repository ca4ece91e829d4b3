"""Tells that a task was cancelled, where psycopg says something else.

Cancelled while it enters the pipeline of an ``executemany()``, psycopg fails an assertion, by which
nobody knows that the task was to end, and that the connection cannot be used again.
Leans on `Dialect.do_executemany`.  Checked against SQLAlchemy 2.0.40 and 2.1.9, and psycopg 3.3.9.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any


def install(dialect: Any) -> None:
    """Let a `dialect` for asyncio be cancelled in every statement."""
    if dialect.driver != "psycopg":
        return
    method = dialect.do_executemany

    def call(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        try:
            method(cursor, statement, parameters, context)
        except AssertionError as error:
            if isinstance(error.__context__, CancelledError):
                raise error.__context__ from None
            raise

    dialect.do_executemany = call
