"""What sessions of asyncio do while somebody cancels them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection, event, func, select, update
from sqlalchemy.orm import Session, SessionTransaction, selectinload

from router import AsyncRoutingSession
from tests.faults.sights import KEPT
from tests.session.shop import Account, Customer, Note

Doing = Callable[[AsyncRoutingSession, int], Awaitable[None]]


def rows(key: int) -> list[Any]:
    """Return a row for each database."""
    return [Account(id=key, name="a"), *(Customer(id=key + at, name="c") for at in (0, 1))]


# -- reads --------------------------------------------------------------------------------------


async def fan_out(session: AsyncRoutingSession, _: int) -> None:
    """Read from every shard, and load what belongs to the rows."""
    every = select(Customer).where(Customer.id < len(KEPT)).options(selectinload(Customer.orders))
    found = (await session.scalars(every)).all()
    assert {one.id: [order.total for order in one.orders] for one in found} == {
        key: [key] for key in KEPT
    }


async def greet(session: AsyncRoutingSession, key: int) -> None:
    """Read from every shard, and have each asked when its transaction begins."""

    def ask(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT 1")

    event.listen(session.sync_session, "after_begin", ask)
    await fan_out(session, key)


async def merge(session: AsyncRoutingSession, _: int) -> None:
    """Read what is sorted, counted and cut."""
    kept = Customer.id < len(KEPT)
    last = select(Customer.id).where(kept).order_by(Customer.id.desc()).limit(3)
    assert (await session.scalars(last)).all() == [7, 6, 5]
    assert await session.scalar(select(func.count()).select_from(Customer).where(kept)) == len(KEPT)


async def gather(session: AsyncRoutingSession, _: int) -> None:
    """Read what has to be copied to one database."""
    pairs = select(Customer.id, Note.id).join(Note, Note.id == Customer.id).order_by(Customer.id)
    found = await session.execute(pairs)
    assert [tuple(row) for row in found] == [(key, key) for key in KEPT]


async def stream(session: AsyncRoutingSession, _: int) -> None:
    """Read rows as they come, some of them."""
    every = select(Customer.id).where(Customer.id < len(KEPT)).order_by(Customer.id)
    found = await session.stream_scalars(every.execution_options(yield_per=2))
    try:
        assert [await found.fetchmany(1) for _ in range(3)] == [[0], [1], [2]]
    finally:
        await found.close()
    ones = await session.stream_scalars(every.execution_options(yield_per=1))
    try:
        async for one in ones:
            if one == 5:
                break
    finally:
        await ones.close()


async def get(session: AsyncRoutingSession, _: int) -> None:
    """Look for a row on every shard, and read it again."""
    note = await session.get_one(Note, 5)
    await session.refresh(note, ["customer"])
    assert note.customer.id == 5


# -- writes -------------------------------------------------------------------------------------


async def flush(session: AsyncRoutingSession, key: int) -> None:
    """Write to all databases, and leave it at that."""
    session.add_all(rows(key))
    await session.flush()


async def commit(session: AsyncRoutingSession, key: int) -> None:
    """Commit to all databases."""
    session.add_all(rows(key))
    await session.commit()


async def prepare(session: AsyncRoutingSession, key: int) -> None:
    """Commit to all databases in two steps."""
    session.add_all(rows(key))
    await session.run_sync(lambda below: below.prepare())
    await session.commit()


async def roll_back(session: AsyncRoutingSession, key: int) -> None:
    """Write to all databases, and take it back."""
    session.add_all(rows(key))
    await session.flush()
    await session.rollback()


async def savepoints(session: AsyncRoutingSession, key: int) -> None:
    """Keep what one savepoint has written, and not what another one has."""
    session.add(rows(key)[0])
    async with session.begin_nested():
        session.add_all(rows(key)[1:])
    savepoint = await session.begin_nested()
    await session.execute(update(Customer).values(name="wrong"))
    await savepoint.rollback()
    await session.commit()


async def change(session: AsyncRoutingSession, key: int) -> None:
    """Change rows of both shards, that were read before."""
    found = await session.scalars(select(Customer).where(Customer.id < len(KEPT)))
    for one in found:
        one.name = f"n{key}"
    session.add_all(rows(key))
    await session.flush()
    await session.execute(update(Customer).where(Customer.id < len(KEPT)).values(name=f"m{key}"))
    await session.commit()


READS: list[Doing] = [fan_out, greet, merge, gather, stream, get]
KEEPING: list[Doing] = [commit, prepare, savepoints, change]
LEAVING: list[Doing] = [flush, roll_back]
