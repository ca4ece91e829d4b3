"""Fresh databases for tests, and their certain end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from router.transaction.listing import prepared
from router.transaction.log import identity_of
from tests.support.broker import Servers

MakeDatabases = Callable[[str, int], list[str]]
"""Called with a kind (postgresql, mariadb, sqlite) and a number; returns URLs with passwords."""


@contextmanager
def fresh_databases(servers: Servers, directory: Path) -> Iterator[MakeDatabases]:
    """Yield a maker of databases; drop what it made at the end.

    The databases of one call are dealt to the servers of their kind in turn.
    """
    made: list[str] = []

    def make(kind: str, count: int) -> list[str]:
        if kind == "sqlite":
            names = (secrets.token_hex(4) for _ in range(count))
            return [f"sqlite+pysqlite:///{directory / name}.sqlite" for name in names]
        urls = [_create(server) for server in islice(cycle(servers.urls(kind)), count)]
        made.extend(urls)
        return urls

    try:
        yield make
    finally:
        for url in made:
            _drop(url)


@contextmanager
def autocommit(url: str) -> Iterator[Connection]:
    """Yield a connection on which every statement commits itself."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def query(url: URL | str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement, committed, on a connection of its own; return its rows."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def _create(server: str) -> str:
    # The grants of MariaDB's user cover names that begin so.
    name = f"app_{secrets.token_hex(6)}"
    with autocommit(server) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _drop(url: str) -> None:
    server = make_url(url)
    drop = _drop_postgresql if server.get_backend_name() == "postgresql" else _drop_mariadb
    drop(url, server.database or "")


def _drop_postgresql(url: str, name: str) -> None:
    # Not even FORCE drops a database with prepared transactions.
    with autocommit(url) as connection:
        prepared = text("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
        for gid in connection.scalars(prepared).all():
            connection.exec_driver_sql(f"ROLLBACK PREPARED '{gid}'")
    with autocommit(_administrative(url)) as connection:
        # A worker of autovacuum, which is not ours to terminate, is gone a moment later.
        for _ in range(50):
            try:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            except ProgrammingError:
                time.sleep(0.2)
            else:
                return
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def _drop_mariadb(url: str, name: str) -> None:
    with autocommit(_administrative(url)) as connection:
        _roll_back_branches(url, connection)
        # An idle connection with an open transaction would make the DROP wait.
        users = text("SELECT id FROM information_schema.processlist WHERE db = :name")
        for user in connection.scalars(users, {"name": name}).all():
            # It may be gone by now.
            with suppress(OperationalError):
                connection.exec_driver_sql(f"KILL {user}")
        connection.execute(text(f"DROP DATABASE {name}"))


def _roll_back_branches(url: str, connection: Connection) -> None:
    """End the prepared branches of a database, whose locks would make the DROP wait."""
    with create_engine(url, poolclass=NullPool).connect() as own:
        identity = identity_of(own)
    for one in prepared(connection):
        if one.branch.participant == identity:
            connection.exec_driver_sql(f"XA ROLLBACK {one.branch.xid(one.connection)}")


def _administrative(url: str) -> str:
    return make_url(url).set(database="app").render_as_string(hide_password=False)
