"""A ledger over several databases: what one transaction writes is everywhere or nowhere.

Each database has a table of entries and a table with a balance; a transaction adds an entry to
every database and moves money from the first one to all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from itertools import cycle, islice
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Executable,
    Integer,
    MetaData,
    Table,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.pool import QueuePool

from router import Router
from router.transaction.cleaning import clean
from router.transaction.log import NAME as LOG
from tests.support.databases import MakeDatabases

METADATA = MetaData()
MOST = 5
ENTRIES = [
    Table(f"entries{at}", METADATA, Column("id", Integer, primary_key=True, autoincrement=False))
    for at in range(MOST)
]
BALANCES = [
    Table(
        f"balances{at}",
        METADATA,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("amount", Integer, nullable=False),
    )
    for at in range(MOST)
]


class Colour(Enum):
    """Which kind of session commits."""

    SYNC = "sync"
    ASYNC = "async"


def open_ledger(urls: Sequence[str], **changes: Any) -> Router:
    """Return a router over the databases of `urls`, one keyspace each."""
    places = range(len(urls))
    own = MetaData()
    for at in places:
        ENTRIES[at].to_metadata(own)
        BALANCES[at].to_metadata(own)
    data = {
        "version": 1,
        "databases": {f"b{at}": {"url": urls[at]} for at in places},
        "keyspaces": {f"k{at}": {"database": f"b{at}"} for at in places},
        "binds": {
            "tables": {f"{kind}{at}": f"k{at}" for at in places for kind in ("entries", "balances")}
        },
        **changes,
    }
    return Router.from_dict(data, metadata=own)


def prepare(router: Router) -> None:
    """Create the tables, with a balance of 0 everywhere."""
    router.create_all()
    for at, name in enumerate(router.engines):
        with router.engines[name].begin() as connection:
            connection.execute(insert(BALANCES[at]).values(id=1, amount=0))


def writes(router: Router, number: int) -> list[Executable]:
    """Return the statements of one transaction."""
    count = len(router.engines)
    made: list[Executable] = []
    for at in range(count):
        amount = BALANCES[at].c.amount
        change = 1 if at else 1 - count
        made.append(insert(ENTRIES[at]).values(id=number))
        made.append(update(BALANCES[at]).values(amount=amount + change))
    return made


def transact(router: Router, number: int, colour: Colour = Colour.SYNC) -> None:
    """Make one transaction over all databases."""
    if colour is Colour.SYNC:
        with router.sessionmaker().begin() as session:
            for statement in writes(router, number):
                session.execute(statement)
    else:
        asyncio.run(_transact(router, number))


async def _transact(router: Router, number: int) -> None:
    try:
        async with router.async_sessionmaker().begin() as session:
            for statement in writes(router, number):
                await session.execute(statement)
    finally:
        await router.aclose()


WORLDS = {
    "postgresql": ("postgresql",),
    "mariadb": ("mariadb", "postgresql"),
    "sqlite": ("mariadb", "postgresql"),
}
"""Decider: the kinds of those who are prepared beside it, in turn."""


class Ledger:
    """A ledger that lasts for several tests, and the transactions that were committed there."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self.router = open_ledger(urls)
        prepare(self.router)
        self.number = 0
        self.committed: set[int] = set()

    def begin(self) -> int:
        """Return the number of a new transaction."""
        self.number += 1
        return self.number

    def forgets(self) -> bool:
        """Delete what the logs no longer need; return whether nothing is left there."""
        clean(self.router.engines, keep=0)
        return not verdicts(self.router)


class Ledgers:
    """A ledger for each kind of decider and number of others, made when first asked for."""

    def __init__(self, make: MakeDatabases, stack: ExitStack) -> None:
        self._make = make
        self._stack = stack
        self._made: dict[tuple[str, int], Ledger] = {}

    def of(self, decider: str, others: int = 2) -> Ledger:
        """Return the ledger in which a database of this kind decides for so many others."""
        if (decider, others) not in self._made:
            kinds = [decider, *islice(cycle(WORLDS[decider]), others)]
            ledger = Ledger([url for kind in kinds for url in self._urls(kind)])
            self._stack.callback(ledger.router.dispose)
            self._made[decider, others] = ledger
        return self._made[decider, others]

    def _urls(self, kind: str) -> list[str]:
        # Who has stopped in the middle keeps all others waiting.
        return [f"{url}?timeout=1" if kind == "sqlite" else url for url in self._make(kind, 1)]


# -- what must hold -----------------------------------------------------------------------------


def entries(router: Router) -> list[set[int]]:
    """Return the entries of each database."""
    found = []
    for at, name in enumerate(router.engines):
        with router.engines[name].connect() as connection:
            found.append(set(connection.scalars(select(ENTRIES[at].c.id))))
    return found


def total(router: Router) -> int:
    """Return the sum of all balances."""
    amounts = []
    for at, name in enumerate(router.engines):
        with router.engines[name].connect() as connection:
            amounts.append(connection.scalars(select(BALANCES[at].c.amount)).one())
    return sum(amounts)


def verdicts(router: Router) -> list[str]:
    """Return the verdicts in all decision logs."""
    found: list[str] = []
    for engine in router.engines.values():
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT verdict FROM {LOG} WHERE verdict <> 'I'"))
            found += [str(verdict) for (verdict,) in rows]
    return found


def settled(router: Router) -> bool:
    """Return whether nothing is in doubt and no connection is out, wherever it ended."""
    return not router.in_doubt().branches and all(map(_is_idle, router.engines.values()))


def _is_idle(engine: Engine) -> bool:
    return not isinstance(engine.pool, QueuePool) or engine.pool.checkedout() == 0


def recovers(router: Router) -> bool:
    """Recover at once; return whether nothing is left to do."""
    return not [one for one in router.recover(grace=0) if one.is_open]


def assert_whole(router: Router, *, committed: set[int]) -> None:
    """Fail unless exactly the transactions of `committed` are everywhere, and nothing else."""
    assert entries(router) == [committed] * len(router.engines)
    assert total(router) == 0
    assert settled(router)
