"""A shop for sessions that are cancelled, and what must not be seen there afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import StaticPool

from router.transaction.listing import prepared
from router.transaction.log import identity_of
from tests.session.shop import Customer, Note, Order, open_router
from tests.support.databases import MakeDatabases

KINDS = {
    "postgresql": ("postgresql", "postgresql", "postgresql"),
    "mariadb": ("mariadb", "mariadb", "mariadb"),
    "sqlite": ("sqlite", "sqlite", "sqlite"),
    "sqlite-postgresql": ("sqlite", "postgresql", "postgresql"),
    "postgresql-mariadb": ("postgresql", "mariadb", "mariadb"),
}
"""World: the kinds of its databases, that of the accounts first."""

KEPT = range(8)
"""The customers that are always there, half of them on each shard."""

PATIENCE = 10.0

_TABLES = ("accounts", "customers", "customers")

_CONNECTIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist"
    " WHERE db = database() AND id <> connection_id()",
}


class World:
    """A shop over three databases, watched by connections that no session uses."""

    def __init__(self, urls: list[str], stack: ExitStack) -> None:
        alone = all(url.startswith("sqlite") for url in urls)
        self.router = open_router(urls, transactions={"two_phase": not alone})
        stack.callback(self.router.dispose)
        self._watchers = [_watching(url, stack) for url in urls]
        with self.router.sessionmaker().begin() as session:
            for key in KEPT:
                session.add(
                    Customer(
                        id=key,
                        name="kept",
                        orders=[Order(number=1, total=key)],
                        notes=[Note(id=key, text="kept")],
                    )
                )
        self.router.dispose()
        self._number = 0

    def begin(self) -> int:
        """Return the key of a new customer on the first shard; the next one is on the second."""
        self._number += 1
        return 1000 + 2 * self._number

    # -- what is there ---------------------------------------------------------------------

    def written(self, key: int) -> list[bool]:
        """Return for each database whether it has the row that was written under `key`."""
        return [
            bool(_all(one, f"SELECT id FROM {table} WHERE id = {number}"))
            for one, table, number in zip(self._watchers, _TABLES, (key, key, key + 1), strict=True)
        ]

    def names(self) -> set[str]:
        """Return the names of the customers that are always there."""
        asked = f"SELECT DISTINCT name FROM customers WHERE id < {len(KEPT)}"
        return {str(name) for one in self._watchers[1:] for name in _all(one, asked)}

    def locks(self) -> list[str]:
        """Return what keeps rows or files locked, as the databases say it."""
        found = []
        for one, table in zip(self._watchers, _TABLES, strict=True):
            try:
                _lock(one, table)
            except Exception as error:  # noqa: BLE001 - the test shows it
                found.append(f"{one.dialect.name}: {error}")
        return found

    def dangling(self) -> list[str]:
        """Return the branches that somebody has prepared, and nobody settled."""
        found: list[str] = []
        for one in self._watchers:
            if one.dialect.name == "postgresql":
                found += _all(
                    one, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
                )
            elif one.dialect.name == "mysql":
                ours = identity_of(one)
                found += [one.branch.gid for one in prepared(one) if one.branch.participant == ours]
        return found

    def strangers(self) -> list[int]:
        """Return for each database how many connections it has that its pool does not know."""
        pools: list[Any] = [one.sync_engine.pool for one in self.router.async_engines.values()]
        return [
            # What a pool keeps may have been closed.
            max(0, _count(one) - pool.checkedin()) if one.dialect.name in _CONNECTIONS else 0
            for one, pool in zip(self._watchers, pools, strict=True)
        ]

    def checked_out(self) -> list[int]:
        """Return for each database how many connections of its pool are in use."""
        pools: list[Any] = [one.sync_engine.pool for one in self.router.async_engines.values()]
        return [pool.checkedout() for pool in pools]


class Worlds:
    """The worlds of one module, made when first asked for."""

    def __init__(self, make: MakeDatabases, stack: ExitStack) -> None:
        self._make = make
        self._stack = stack
        self._made: dict[str, World] = {}

    def of(self, name: str) -> World:
        """Return the world of this name."""
        if name not in self._made:
            urls = [url for kind in KINDS[name] for url in self._make(kind, 1)]
            self._made[name] = World(urls, self._stack)
        return self._made[name]


async def eventually(condition: Callable[[], object]) -> bool:
    """Wait until `condition` holds; return whether it did in the end."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True


def _watching(url: str, stack: ExitStack) -> Connection:
    options = {"timeout": 0} if url.startswith("sqlite") else {}
    engine = create_engine(
        url, poolclass=StaticPool, isolation_level="AUTOCOMMIT", connect_args=options
    )
    stack.callback(engine.dispose)
    return stack.enter_context(engine.connect())


def _count(connection: Connection) -> int:
    return int(connection.exec_driver_sql(_CONNECTIONS[connection.dialect.name]).scalar_one())


def _all(connection: Connection, statement: str) -> list[Any]:
    return list(connection.scalars(text(statement)))


def _lock(connection: Connection, table: str) -> None:
    """Lock all rows of a table, if nobody else has locked any, and let them go."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
    try:
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql(f"SELECT id FROM {table} FOR UPDATE NOWAIT")
    finally:
        connection.exec_driver_sql("ROLLBACK")
