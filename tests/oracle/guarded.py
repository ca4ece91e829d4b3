"""The traps for guarded sessions: all tables beside each other, and one key's rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Table, create_engine, delete, insert, or_, select
from sqlalchemy.orm import Session

from router import Router
from router.testing import Oracle
from tests.oracle import schema
from tests.oracle.rows import Rows, spread
from tests.support.databases import MakeDatabases

KEYSPACE = "shop"
SHARDS = 2
KEYS = (2, 5, 8)
"""The keys that are guarded, one after another; the others share their shards."""

KEYED: Mapping[str, str] = {
    "customers": "id",
    **dict.fromkeys(
        ("orders", "lines", "notes", "tickets", "assets", "vehicles", "favourites"), "customer_id"
    ),
}
COPIED = ("countries", "products", "accounts", "contacts", "campaigns", "invoices", "Settings Of")

Sessions = Callable[[], Session]


def shard_map(urls: list[str]) -> dict[str, Any]:
    """Return a map in which whatever has no key is a reference table."""
    return {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            KEYSPACE: {
                "shards": {f"s{number}": f"d{number}" for number in range(len(urls))},
                "sharding": {"function": "hash", "buckets": 64, "null_shard": "s1"},
                "tables": dict(KEYED),
                "reference_tables": list(COPIED),
            },
        },
        "transactions": {"two_phase": False},
    }


def guarded(router: Router, key: int) -> Sessions:
    """Return what makes sessions that are in a guarded partition from beginning to end."""
    sessions = router.sessionmaker()

    def make() -> Session:
        session = sessions()
        session.partition(key, keyspace=KEYSPACE, guard=True).__enter__()
        return session

    return make


def key_of(table: Table) -> Any:
    """Return the column of a table's key, None if it has none."""
    name = KEYED.get(table.name)
    return None if name is None else table.c[name]


def rows(engine: Engine, key: int, *, mine: bool) -> dict[str, list[str]]:
    """Return the rows of every table that have the key, or that have another one."""
    found: dict[str, list[str]] = {}
    with engine.connect() as connection:
        for table in schema.Base.metadata.sorted_tables:
            column = key_of(table)
            if column is not None:
                own = (column == key) if mine else or_(column != key, column.is_(None))
                found[table.name] = sorted(map(repr, connection.execute(select(table).where(own))))
    return found


def _keep_only(engine: Engine, key: int) -> None:
    with engine.begin() as connection:
        for table in reversed(schema.Base.metadata.sorted_tables):
            column = key_of(table)
            if column is not None:
                others = or_(column != key, column.is_(None))
                connection.execute(delete(table).where(others))


@dataclass(frozen=True)
class Guarded:
    """Shards, and for each guarded key a database with its rows alone."""

    router: Router
    engines: Mapping[int, Engine]

    def oracle(self, key: int) -> Oracle:
        """Return the oracle of guarded statements, whose database is made anew."""
        oracle = Oracle(self.router, self.engines[key], sessions=guarded(self.router, key))
        oracle.fill()
        _keep_only(self.engines[key], key)
        return oracle

    def fill(self, key: int, seed: str) -> None:
        """Put the rows of a key into its database, with all constraints."""
        engine = self.engines[key]
        schema.Base.metadata.create_all(engine)
        with engine.begin() as connection:
            for model, some in _made(seed, engine.dialect.name):
                table = model if isinstance(model, Table) else model.__table__
                column = key_of(table)
                own = [row for row in some if column is None or row[column.name] == key]
                if own:
                    connection.execute(insert(table), own)


def _made(seed: str, dialect: str) -> list[Any]:
    return [pair for pair in Rows(seed, dialect).all() if pair[0] is not schema.Ticket]


@contextmanager
def world(dialect: str, seed: str, make: MakeDatabases, *, tickets: bool) -> Iterator[Guarded]:
    """Yield fresh shards with the rows of `seed`, and empty databases for the keys."""
    urls = make(dialect, SHARDS + len(KEYS))
    with ExitStack() as stack:
        router = stack.enter_context(
            Router.from_dict(shard_map(urls[:SHARDS]), metadata=schema.Base.metadata)
        )
        engines = {key: create_engine(url) for key, url in zip(KEYS, urls[SHARDS:], strict=True)}
        for engine in engines.values():
            stack.callback(engine.dispose)
        router.create_all()
        spread(router, Rows(seed, dialect).all() if tickets else _made(seed, dialect))
        yield Guarded(router, engines)
