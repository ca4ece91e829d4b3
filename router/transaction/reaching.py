"""Connections that recovery takes from pools, which may have been lost there long ago."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc

from router.errors import RouterError

T = TypeVar("T")

UNREACHABLE = (sa_exc.DBAPIError, sa_exc.TimeoutError, RouterError)
"""What is raised when a database does not answer, refuses, or has no connection left."""


def connected(engine: Engine, call: Callable[[Connection], T]) -> T:
    """Return what `call` does with a connection; on a new one if the first turns out to be lost.

    So it is for calls that may be made twice.
    """
    try:
        with engine.connect() as connection:
            return call(connection)
    except sa_exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
    with engine.connect() as connection:
        return call(connection)
