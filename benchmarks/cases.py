"""What is timed: the same calls on routed sessions and on plain ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from benchmarks.models import Customer, Sessions, Worlds

_fresh = itertools.count(1_000_000)


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement; `limit` is the largest ratio that the project allows itself."""

    name: str
    call: Callable[[Sessions], None]
    limit: float | None = None


def cases(worlds: Worlds) -> list[Case]:
    """Return the cases, in the order of the table."""
    near = worlds.keys_of_one_shard(100)
    wide = list(range(100))
    return [
        Case("100 `get` in one session, one shard", gets(near), 1.10),
        Case("100 `get` in one session, all four shards", gets(wide)),
        Case("100 selects by key in one session, one shard", selects(near), 1.10),
        Case("100 selects by key in one session, all four shards", selects(wide)),
        Case("30 short transactions (get, change, commit), one shard", shorts(near[:30]), 1.15),
        Case("30 short transactions, the four shards in turn", shorts(wide[:30])),
        Case("flush of 1,000 new objects over four shards", flush, 1.5),
        Case("bulk insert of 100,000 rows over four shards", bulk_insert, 1.3),
        Case("update of 4,000 rows over four shards", update_all),
        Case("select of 1,000 rows by IN over four shards", in_list(list(range(1000)))),
    ]


def gets(keys: Sequence[int]) -> Callable[[Sessions], None]:
    """Return a call that gets every key from the database."""

    def call(make: Sessions) -> None:
        with make() as session:
            for key in keys:
                session.get(Customer, key)

    return call


def selects(keys: Sequence[int]) -> Callable[[Sessions], None]:
    """Return a call that selects every key, each time with a new statement."""

    def call(make: Sessions) -> None:
        with make() as session:
            for key in keys:
                session.scalars(select(Customer).where(Customer.id == key)).one()

    return call


def shorts(keys: Sequence[int]) -> Callable[[Sessions], None]:
    """Return a call that makes a transaction of its own for every key."""

    def call(make: Sessions) -> None:
        for key in keys:
            with make.begin() as session:
                customer = session.get_one(Customer, key)
                customer.name = f"changed {next(_fresh)}"

    return call


def flush(make: Sessions) -> None:
    """Flush 1,000 objects whose shards alternate, and roll back."""
    with make() as session:
        session.add_all(Customer(id=next(_fresh), name="new") for _ in range(1000))
        session.flush()
        session.rollback()


def bulk_insert(make: Sessions) -> None:
    """Insert rows whose shards alternate in one call, and roll back."""
    rows = [{"id": next(_fresh), "name": "new"} for _ in range(100_000)]
    with make() as session:
        session.execute(insert(Customer), rows)
        session.rollback()


def update_all(make: Sessions) -> None:
    """Change every row by one statement, and roll back."""
    with make() as session:
        session.execute(update(Customer).values(name="changed"))
        session.rollback()


def in_list(keys: list[int]) -> Callable[[Sessions], None]:
    """Return a call that selects many keys at once."""

    def call(make: Sessions) -> None:
        with make() as session:
            session.scalars(select(Customer).where(Customer.id.in_(keys))).all()

    return call
