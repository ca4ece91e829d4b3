"""Connections that recovery uses may be lost at any moment; pools stay whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from router.transaction.reaching import connected
from tests.support.databases import MakeDatabases

CUT = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
    "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
}


@pytest.mark.parametrize("kind", list(CUT))
def test_lost_when_all_is_done(make_databases: MakeDatabases, kind: str) -> None:
    """What was done is done; the connection is replaced, and its place in the pool is kept."""
    (url,) = make_databases(kind, 1)
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=5)
    whose, end = CUT[kind]
    for _ in range(3):
        assert connected(engine, cutting(url, whose, end), "READ COMMITTED") == 7
    assert connected(engine, lambda one: one.scalar(text("SELECT 7")), "READ COMMITTED") == 7
    engine.dispose()


@pytest.mark.parametrize("kind", list(CUT))
def test_lost_before(make_databases: MakeDatabases, kind: str) -> None:
    """Everything is tried again, once."""
    (url,) = make_databases(kind, 1)
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=5)
    whose, end = CUT[kind]
    first = cutting(url, whose, end)
    calls: list[int] = []

    def call(connection: Connection) -> int:
        calls.append(1)
        if len(calls) == 1:
            first(connection)
        return connection.scalar(text("SELECT 7")) or 0

    assert connected(engine, call, "READ COMMITTED") == 7
    assert len(calls) == 2
    engine.dispose()


def cutting(url: str, whose: str, end: str) -> Callable[[Connection], int]:
    """Return a call that answers 7, whose connection has ended by then."""

    def call(connection: Connection) -> int:
        number = connection.scalar(text(whose))
        other = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with other.connect() as killer:
            killer.execute(text(end.format(number)))
        return 7

    return call
