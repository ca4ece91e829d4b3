"""Connections that recovery takes from pools, which may have been lost there long ago."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc

from router.errors import RouterError

T = TypeVar("T")

UNREACHABLE = (sa_exc.DBAPIError, sa_exc.TimeoutError, RouterError)
"""What is raised when a database does not answer, refuses, or has no connection left."""


def read_committed(engine: Engine) -> str | None:
    """Return the isolation level at which all is seen that is committed, and nothing else."""
    # SQLite has nothing less than SERIALIZABLE, and waits for writers.
    return None if engine.dialect.name == "sqlite" else "READ COMMITTED"


def connected(engine: Engine, call: Callable[[Connection], T], level: str | None = None) -> T:
    """Return what `call` does with a connection, perhaps at an isolation `level` of its own.

    It is called once more, on a new connection, if the first turns out to be lost.
    """
    try:
        with _opened(engine, level) as connection:
            return call(connection)
    except sa_exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
    with _opened(engine, level) as connection:
        return call(connection)


@contextmanager
def _opened(engine: Engine, level: str | None) -> Iterator[Connection]:
    lost: Any = engine.dialect.loaded_dbapi.Error
    try:
        with engine.connect() as plain:
            if level is None:
                yield plain
                return
            try:
                yield plain.execution_options(isolation_level=level)
            finally:
                _restore(plain, lost)
    except lost as error:
        # SQLAlchemy takes no notice of what drivers raise when a level is set.
        raise sa_exc.OperationalError("", {}, error, connection_invalidated=True) from error


def _restore(plain: Connection, lost: Any) -> None:
    """Give a connection its level back, or up; SQLAlchemy would lose its place in the pool."""
    if plain.invalidated:
        return
    try:
        plain.rollback()
        plain.dialect.reset_isolation_level(plain.connection.dbapi_connection)  # type: ignore[arg-type]
    except (lost, sa_exc.DBAPIError):
        plain.invalidate()
