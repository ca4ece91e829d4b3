"""Traps of sharded sessions: where others give one shard's answer, or every shard's.

A read over several shards is compared with the same rows in one plain database.  It may be
refused; an answer of its own is a failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import ScalarResult, create_engine, exists, func, insert, inspect, select
from sqlalchemy import union as union_of
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from router import CrossShardError, Router, RoutingError, RoutingSession, on_shard
from tests.conftest import MakeDatabases
from tests.session.conftest import Statements, watch
from tests.session.shop import Base, Customer, Order, open_router, shard_map

TOTALS = [5, 1, 9, 2, 4, 4, 0, 3, 9, 5, 8, 0]


@dataclass
class Worlds:
    """The same rows over three shards, and in one plain database."""

    router: Router
    routed: sessionmaker[RoutingSession]
    plain: sessionmaker[Session]
    sent: Statements


@pytest.fixture
def worlds(make_databases: MakeDatabases) -> Iterator[Worlds]:
    """Six customers with two orders each; totals repeat across shards."""
    *urls, one = make_databases("sqlite", 5)
    engine = create_engine(one, poolclass=NullPool)
    Base.metadata.create_all(engine)
    with open_router(urls) as router:
        made = Worlds(router, router.sessionmaker(), sessionmaker(engine), watch(router))
        for make in (made.routed, made.plain):
            with make.begin() as session:
                session.add_all(Customer(id=key, name=f"c{key % 2}") for key in range(6))
                session.add_all(
                    Order(customer_id=at % 6, number=at // 6, total=total)
                    for at, total in enumerate(TOTALS)
                )
        made.sent.sent.clear()
        yield made


def _plain(row: Any) -> tuple[Any, ...]:
    """Return a row with the names of its objects in their place."""
    return tuple(
        (type(one).__name__, *inspect(one).identity) if isinstance(one, Base) else one
        for one in (row if isinstance(row, tuple) or hasattr(row, "_fields") else (row,))
    )


def answer(session: Session, statement: Any) -> list[tuple[Any, ...]]:
    """Return the rows of `statement`."""
    return [_plain(row) for row in session.execute(statement)]


def answer_or_refusal(session: Session, statement: Any) -> list[tuple[Any, ...]] | str:
    """Return the rows of `statement`, or the id of the error that refuses it."""
    try:
        return answer(session, statement)
    except CrossShardError as error:
        return error.id


def exact_or_refused(worlds: Worlds, *statements: Any, ordered: bool = False) -> int:
    """Compare answers with the plain database's, order included where it is asked for.

    What is refused must be refused before anything is sent.  Returns how many were not.
    """
    exact = 0
    for statement in statements:
        with worlds.plain() as session:
            expected = answer(session, statement)
        assert expected, "a statement without rows tells nothing"
        worlds.sent.sent.clear()
        with worlds.routed() as session:
            found = answer_or_refusal(session, statement)
        if isinstance(found, str):
            assert found in {"R301", "R302"}
            assert worlds.sent.sent == []
            continue
        exact += 1
        if ordered:
            assert found == expected
        else:
            assert Counter(found) == Counter(expected)
    return exact


def test_plain_reads(worlds: Worlds) -> None:
    """Rows that are independent of each other are never refused."""
    statements = [
        select(Order),
        select(Order.total, Customer).join(Customer),
        select(Order).where(Order.total > 3),
        select(Customer).where(Customer.id.in_([0, 1, 5])),
    ]
    assert exact_or_refused(worlds, *statements) == len(statements)


# -- reads that merging shard by shard gets wrong -----------------------------------------------


def test_order_by(worlds: Worlds) -> None:
    """The rows of all shards are sorted together, not one shard after another."""
    rest = (Order.customer_id, Order.number)
    exact_or_refused(
        worlds,
        select(Order).order_by(Order.total, *rest),
        select(Order).order_by(Order.total.desc(), *rest),
        select(Order.customer_id, Order.number).order_by(Order.total, *rest),
        select(Customer.name, Order.number)
        .join(Customer.orders)
        .order_by(Order.total, Customer.id.desc(), Order.number),
        ordered=True,
    )


def test_limit(worlds: Worlds) -> None:
    """As many rows as asked for, the first of all shards."""
    rest = (Order.customer_id, Order.number)
    exact_or_refused(
        worlds,
        select(Order).order_by(Order.total.desc(), *rest).limit(2),
        select(Order.total).order_by(Order.total.desc()).limit(5),
        ordered=True,
    )


def test_offset(worlds: Worlds) -> None:
    """An offset skips rows of the whole, not of each shard."""
    rest = (Order.customer_id, Order.number)
    exact_or_refused(
        worlds,
        *(select(Order).order_by(Order.total, *rest).limit(1).offset(skip) for skip in (1, 5, 11)),
        select(Order).order_by(Order.total, *rest).offset(10).limit(100),
        ordered=True,
    )


def test_limit_without_order(worlds: Worlds) -> None:
    """Which rows are returned is open; how many is not."""
    with worlds.plain() as session:
        every = set(answer(session, select(Order)))
    for limit in (1, 5):
        with worlds.routed() as session:
            found = answer_or_refusal(session, select(Order).limit(limit).offset(1))
        if isinstance(found, str):
            assert found == "R301"
            continue
        assert len(set(found)) == len(found) == limit
        assert set(found) <= every


@pytest.mark.parametrize(
    "aggregate",
    [
        func.count(),
        func.count(Order.total),
        func.count(Order.total.distinct()),
        func.max(Order.total),
        func.min(Order.total),
        func.sum(Order.total),
        func.avg(Order.total),
        func.sum(Order.total) / func.count(),
    ],
    ids=str,
)
def test_aggregates(worlds: Worlds, aggregate: Any) -> None:
    """One value over the rows of every shard, not the first shard's."""
    exact_or_refused(
        worlds,
        select(aggregate).select_from(Order),
        select(aggregate).select_from(Order).where(Order.total > 2),
    )


def test_exists(worlds: Worlds) -> None:
    """A row that only one shard has exists."""
    exact_or_refused(
        worlds,
        *(select(exists().where(Order.total == total)) for total in (0, 1, 8, 9, 77)),
        *(select(exists().where(Customer.id == key)) for key in (0, 1, 2, 77)),
    )


def test_group_by(worlds: Worlds) -> None:
    """A group whose rows are on two shards is one group."""
    exact_or_refused(
        worlds,
        select(Order.total, func.count()).group_by(Order.total),
        select(Order.total).group_by(Order.total).having(func.count() > 1),
        select(Customer.name, func.sum(Order.total)).join(Customer.orders).group_by(Customer.name),
        select(Order.customer_id, func.sum(Order.total)).group_by(Order.customer_id),
    )


def test_distinct(worlds: Worlds) -> None:
    """A value that two shards have is returned once."""
    exact_or_refused(
        worlds,
        select(Order.total).distinct(),
        select(Customer.name).distinct(),
        select(Customer).join(Customer.orders).distinct(),
    )


def test_set_operations(worlds: Worlds) -> None:
    """Rows of a set operation meet whichever shard they came from."""
    names, totals = select(Customer.name), select(Order.total)
    even = select(Order.total).where(Order.number == 0)
    exact_or_refused(
        worlds,
        union_of(names, names),
        names.union_all(names),
        totals.intersect(even),
        totals.except_(select(Order.total).where(Order.total > 4)),
    )


def test_window_functions(worlds: Worlds) -> None:
    """Rows are numbered and ranked among the rows of all shards."""
    exact_or_refused(
        worlds,
        select(
            Order.customer_id,
            Order.number,
            func.row_number().over(order_by=(Order.total, Order.customer_id, Order.number)),
        ),
        select(Order.customer_id, func.rank().over(order_by=Order.total)),
        select(Order.number, func.sum(Order.total).over(partition_by=Order.number)),
        select(Order.number, func.count().over(partition_by=Order.customer_id)),
    )


def test_a_single_shard_answers_all_of_these(worlds: Worlds) -> None:
    """Nothing is refused where one shard has all the rows: the key is named."""
    mine = select(Order.total).where(Order.customer_id == 1)
    statements = [
        mine.order_by(Order.total.desc()).limit(1).offset(1),
        select(func.count()).select_from(mine.subquery()),
        mine.distinct(),
        union_of(mine, mine),
        select(func.row_number().over(order_by=Order.total)).where(Order.customer_id == 1),
        select(exists().where(Order.customer_id == 1, Order.total == 3)),
    ]
    for statement in statements:
        with worlds.plain() as plain, worlds.routed() as routed:
            assert answer(routed, statement) == answer(plain, statement)


# -- writes and connections ---------------------------------------------------------------------


def test_an_insert_is_executed_once(worlds: Worlds) -> None:
    """A row is inserted on its own shard; rows of several shards are each inserted once."""
    row = {"customer_id": 1, "number": 7, "total": 7, "version": 1}
    with worlds.routed.begin() as session:
        session.execute(insert(Order).values(**row))
    assert worlds.sent.count("INSERT") == {"d1": 1}
    rows = [{**row, "customer_id": key, "number": 8} for key in range(3)]
    refused = ""
    with worlds.routed() as session:
        try:
            session.execute(insert(Order), rows)
        except CrossShardError as error:
            refused = error.id
        session.commit()
        found = session.scalars(select(Order.customer_id).where(Order.number == 8))
        assert (sorted(found), refused) in [([0, 1, 2], ""), ([], "R305")]


def test_an_insert_without_a_key_goes_nowhere(worlds: Worlds) -> None:
    """Not to every shard, and not to the first."""
    with worlds.routed() as session, pytest.raises(RoutingError, match="R202"):
        session.execute(insert(Order).values(number=7, total=7, version=1))
    assert worlds.sent.sent == []


def test_connection_without_a_shard(make_databases: MakeDatabases) -> None:
    """The default keyspace's connection, or an error that says what is missing."""
    urls = make_databases("sqlite", 3)
    with open_router(urls) as router, router.sessionmaker()() as session:
        assert session.connection().engine is router.engines["main"]
    changes = {"binds": {"default": "shop"}, "transactions": {"two_phase": False}}
    with Router.from_dict(shard_map(urls, **changes)) as router, router.sessionmaker()() as session:
        with pytest.raises(RoutingError, match="R202 the default keyspace shop is sharded"):
            session.connection()
        assert session.connection(bind_arguments={"shard": "shop/s1"}).engine.url.database


def test_flushing_before_any_transaction(worlds: Worlds) -> None:
    """A flush is the first thing that a session does; a failed one leaves it usable."""
    with worlds.routed() as session:
        assert not session.in_transaction()
        session.add_all([Order(customer_id=1, number=5), Order(customer_id=None, number=5)])
        with pytest.raises(RoutingError, match="R205"):
            session.flush()
        session.rollback()
        assert session.connection_callable is None
        session.add_all(Order(customer_id=key, number=5) for key in range(3))
        session.flush()
        assert len(session.scalars(select(Order).where(Order.number == 5)).all()) == 3


def test_a_key_without_a_shard(make_databases: MakeDatabases) -> None:
    """Nothing is there to be read; a row to be written has no place; both are said clearly."""
    data = shard_map(make_databases("sqlite", 3), transactions={"two_phase": False})
    ranges = [{"to": 10, "shard": "s0"}, {"to": 20, "shard": "s1"}]
    data["keyspaces"]["shop"]["sharding"] = {"function": "range", "ranges": ranges}
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        with router.sessionmaker()() as session:
            assert session.get(Customer, 99) is None
            assert session.scalars(select(Customer).where(Customer.id == 99)).all() == []
            assert session.scalar(select(func.count(Customer.id)).where(Customer.id == 99)) == 0
            session.add(Customer(id=99, name="nowhere"))
            with pytest.raises(RoutingError, match="R207"):
                session.flush()
            session.rollback()
            with pytest.raises(RoutingError, match="R207"):
                session.connection(bind_arguments={"keyspace": "shop", "shard_key": 99})
            with pytest.raises(RoutingError, match=r"R206.*shop/s0, shop/s1"):
                session.execute(select(Customer).options(on_shard("shop/s2")))


def test_results_of_several_shards_are_ordinary(worlds: Worlds) -> None:
    """Rows of a read over shards come with every method of a result."""
    with worlds.routed() as session:
        assert isinstance(session.scalars(select(Customer)), ScalarResult)
        assert len(session.scalars(select(Customer)).fetchmany(4)) == 4
        parts = [len(part) for part in session.execute(select(Customer.id)).partitions(4)]
        assert parts == [4, 2]
        assert {row.name for row in session.execute(select(Customer.id, Customer.name))} == {
            "c0",
            "c1",
        }
        assert session.execute(select(Customer.id).where(Customer.id.in_([1, 5]))).mappings().all()
