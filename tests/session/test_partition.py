"""Partitions: what they let through, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.orm import Session

from router import Router, RoutingError
from tests.session.shop import Account, Customer, Note, Order, Tag


@pytest.fixture
def full(lite: Router) -> Router:
    """Three shards with two customers each."""
    with lite.sessionmaker().begin() as session:
        session.add_all(Customer(id=key, name="c", orders=[Order(number=1)]) for key in range(6))
        session.add_all([Account(id=1, name="a"), Tag(id=1)])
    return lite


def seen(session: Session) -> list[int]:
    """Return the customers that `session` sees."""
    return sorted(session.scalars(select(Customer.id)))


def test_reads_are_limited_to_the_shard(full: Router) -> None:
    """Statements without a key see the pinned shard only, text too."""
    with full.sessionmaker()() as session:
        with session.partition(4, keyspace="shop"):
            assert seen(session) == [1, 4]
            assert session.scalar(text("SELECT count(*) FROM customers")) == 2
            assert session.scalars(select(Tag)).one().id == 1
            assert session.get_one(Customer, 1).orders[0].number == 1
        assert seen(session) == list(range(6))


@pytest.mark.parametrize(
    "leave",
    [
        lambda s: s.get(Customer, 2),
        lambda s: s.scalars(select(Customer).where(Customer.id.in_([1, 2]))).all(),
        lambda s: s.scalars(select(Customer).where(Customer.id == 2)).all(),
        lambda s: s.scalars(select(Account)).all(),
        lambda s: s.execute(update(Customer).where(Customer.id == 2).values(name="x")),
        lambda s: s.execute(insert(Customer).values(id=8, name="x")),
        lambda s: s.execute(insert(Account).values(name="x")),
        lambda s: s.execute(insert(Tag).values(id=8)),
        lambda s: s.execute(select(Customer), bind_arguments={"shard": "shop/s0"}),
        lambda s: s.connection(bind_arguments={"shard": "shop/s0"}),
        lambda s: s.connection(bind_arguments={"mapper": Account}),
        lambda s: s.get(Note, 1, bind_arguments={"shard": "shop/s0"}),
        lambda s: s.bulk_insert_mappings(Customer, [{"id": 8, "name": "x"}]),
        lambda s: s.bulk_save_objects([Account(name="x")]),
        lambda s: (s.add(Customer(id=8, name="x")), s.flush()),
        lambda s: (s.add(Account(name="x")), s.flush()),
        lambda s: (s.add(Tag(id=8)), s.flush()),
        lambda s: s.partition(2, keyspace="shop").__enter__(),
    ],
)
def test_what_would_leave_is_refused(full: Router, leave: Any) -> None:
    """Other keys, other keyspaces, writes to every copy: none gets through."""
    with full.sessionmaker()() as session, session.partition(1, keyspace="shop"):
        with pytest.raises(RoutingError, match="R208"):
            leave(session)
        session.rollback()
        assert seen(session) == [1, 4]


def test_nesting_and_exceptions(full: Router) -> None:
    """Partitions nest on one shard; each ends with its block, whatever happens in it."""
    with full.sessionmaker()() as session:
        with session.partition(1, keyspace="shop"):
            with session.partition(4, keyspace="shop"):
                assert seen(session) == [1, 4]
            assert seen(session) == [1, 4]
        with pytest.raises(ZeroDivisionError), session.partition(2, keyspace="shop"):
            raise ZeroDivisionError
        assert len(seen(session)) == 6


def test_generators(full: Router) -> None:
    """A suspended generator keeps its partition; closing or collecting it ends it."""
    with full.sessionmaker()() as session:

        def walk() -> Iterator[list[int]]:
            with session.partition(2, keyspace="shop"):
                yield seen(session)
                yield seen(session)

        first, second = walk(), walk()
        assert next(first) == next(second) == [2, 5]
        first.close()
        assert seen(session) == [2, 5]
        del second
        gc.collect()
        assert len(seen(session)) == 6


def test_registry_partition_lasts_for_the_scope(full: Router) -> None:
    """A session made inside the block after `remove()` is pinned, too; other threads are not."""
    Session = full.scoped_session()
    others: list[list[int]] = []

    def look() -> None:
        others.append(seen(Session()))
        Session.remove()

    with Session.partition(2, keyspace="shop"):
        assert seen(Session()) == [2, 5]
        Session.remove()
        assert seen(Session()) == [2, 5]
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert others == [list(range(6))]
    assert seen(Session()) == list(range(6))
    Session.remove()


def test_registry_partition_does_not_leak_between_tasks(full: Router) -> None:
    """Each asyncio task has its own session and partition."""
    Session = full.scoped_session(scopefunc=asyncio.current_task)

    async def work(key: int) -> list[int]:
        with Session.partition(key, keyspace="shop"):
            await asyncio.sleep(0)
            found = seen(Session())
            await asyncio.sleep(0)
        Session.remove()
        return found

    async def main() -> list[list[int]]:
        return list(await asyncio.gather(*(work(key) for key in range(3))))

    assert asyncio.run(main()) == [[0, 3], [1, 4], [2, 5]]


def test_wrong_arguments(full: Router) -> None:
    """A partition needs a sharded keyspace and a key of its type."""
    with full.sessionmaker()() as session:
        for key, keyspace in ((1, "accounts"), (1, "nothing"), ("1", "shop")):
            with pytest.raises(RoutingError):
                session.partition(key, keyspace=keyspace)
