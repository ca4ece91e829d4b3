"""Guarded partitions of asyncio sessions: what waits is guarded like what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete, event, func, insert, select, text, update
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import async_object_session
from sqlalchemy.orm import Session, joinedload, make_transient_to_detached, selectinload
from sqlalchemy.orm.exc import ObjectDeletedError

from router import AsyncRoutingSession, Router, RouterError, RoutingError
from tests.conftest import MakeDatabases
from tests.session.guarded import (
    ELSEWHERE,
    MINE,
    OTHER,
    Line,
    Note,
    Order,
    Tag,
    Tenant,
    alone,
    rows,
    rows_of_others,
    tenants,
)
from tests.session.guarded_cases import ANSWERED, REFUSED

Main = Callable[[AsyncRoutingSession], Awaitable[Any]]

ALLOWED = {"unguarded": True}


@pytest.fixture
def router(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """Three tenants on two shards, on each kind of database."""
    with tenants(make_databases(dialect, 3)) as router:
        yield router


def run(router: Router, main: Main, *, key: int = MINE) -> None:
    """Run `main` with a guarded session; see that the rows of others stay."""

    async def whole() -> None:
        async with (
            router,
            router.async_sessionmaker()() as session,
            session.partition(key, keyspace="shop", guard=True),
        ):
            await main(session)

    before = rows_of_others(router)
    asyncio.run(whole())
    assert rows_of_others(router) == before


async def refused(waiting: Awaitable[Any], *, missing: bool = False) -> None:
    """See that something is refused, or finds no row."""
    errors = (RoutingError, InvalidRequestError, ObjectDeletedError) if missing else RoutingError
    with pytest.raises(errors) as caught:
        await waiting
    if isinstance(caught.value, RouterError):
        assert caught.value.id == "R215"


def test_reading(router: Router) -> None:
    """Every method that reads sees the rows of the key alone."""

    async def main(session: AsyncRoutingSession) -> None:
        assert list(await session.scalars(select(Tenant.id))) == [MINE]
        assert await session.scalar(select(func.count()).select_from(Order)) == 2
        found = await session.execute(select(Note.id, Line.id).outerjoin(Note.lines))
        assert sorted(map(tuple, found)) == [(10, MINE), (10, MINE + 100)]
        assert (await session.get_one(Tenant, MINE)).name == "t1"
        assert await session.get(Tenant, OTHER) is None
        assert await session.get(Note, OTHER * 10, populate_existing=True) is None
        assert await session.get(Order, (OTHER, 1), with_for_update=True) is None
        for statement in (select(Order.__table__), text("SELECT number FROM orders")):
            await refused(session.execute(statement))
            await refused(session.scalars(statement))
            await refused(session.scalar(statement))
            await refused(session.stream(statement))

    run(router, main)


def test_streams(router: Router) -> None:
    """Rows that are waited for one after another are the key's; so is what is loaded for them."""

    async def main(session: AsyncRoutingSession) -> None:
        every = select(Order).order_by(Order.number).execution_options(yield_per=1)
        seen = [one async for one in await session.stream_scalars(every)]
        homes = [(await one.awaitable_attrs.tenant).id for one in seen]
        assert [(one.tenant_id, one.number) for one in seen] == [(MINE, 1), (MINE, 2)]
        assert homes == [MINE, MINE]
        result = await session.stream(select(Line.id).order_by(Line.id))
        assert [row.id async for row in result.yield_per(1)] == [MINE, MINE + 100]
        notes = select(Note).options(selectinload(Note.lines))
        async for note in await session.stream_scalars(notes):
            assert sorted(line.id for line in note.lines) == [MINE, MINE + 100]

    run(router, main)


def test_relationships(router: Router) -> None:
    """Eager, by `AsyncAttrs`, by `refresh` and in `run_sync`: another's line is not there."""
    own = [MINE, MINE + 100]

    async def main(session: AsyncRoutingSession) -> None:
        for option in (joinedload(Note.lines), selectinload(Note.lines)):
            note = (await session.scalars(select(Note).options(option))).unique().one()
            assert sorted(line.id for line in note.lines) == own
            session.expunge_all()
        note = await session.get_one(Note, MINE * 10)
        assert sorted(line.id for line in await note.awaitable_attrs.lines) == own
        await session.refresh(note, ["lines", "title"])
        assert sorted(line.id for line in note.lines) == own
        session.expire(note)
        loaded = await session.run_sync(lambda _: sorted(line.id for line in note.lines))
        assert loaded == own
        tag = await session.get_one(Tag, 1)
        assert [one.id for one in await tag.awaitable_attrs.tenants] == [MINE]
        assert async_object_session(note) is session

    run(router, main)


def test_writing(router: Router) -> None:
    """What is the key's is written, and what is not is refused."""

    async def main(session: AsyncRoutingSession) -> None:
        tenant = await session.get_one(Tenant, MINE)
        session.add(Note(id=77, tenant=tenant, title="new"))
        await session.merge(Order(tenant_id=MINE, number=9, total=1))
        async with session.begin_nested():
            await session.execute(insert(Order), [{"tenant_id": MINE, "number": 10}])
        await session.commit()
        written = await session.execute(update(Order).values(total=5))
        assert written.rowcount == 4  # type: ignore[attr-defined]
        gone = await session.execute(delete(Line).where(Line.text == "x"))
        assert gone.rowcount == 2  # type: ignore[attr-defined]
        await session.delete(await session.get_one(Note, 77))
        await session.commit()
        for added in (Order(tenant_id=OTHER, number=9), Tenant(id=ELSEWHERE + 2, name="")):
            session.add(added)
            await refused(session.flush())
            await session.rollback()
        own = await session.get_one(Note, MINE * 10)
        own.tenant_id = OTHER
        await refused(session.commit())
        await session.rollback()
        await session.merge(Note(id=MINE * 10, tenant_id=OTHER, title="stolen"))
        await refused(session.flush())
        await session.rollback()
        await refused(session.execute(insert(Order).values(tenant_id=OTHER, number=9)))
        await refused(session.execute(update(Order.__table__).values(total=0)))

    run(router, main)


def test_objects_of_others(router: Router) -> None:
    """Made up, or loaded before: nothing is read for them, and nothing of theirs written."""

    async def main(session: AsyncRoutingSession) -> None:
        made = Tenant(id=OTHER, name="t3")
        make_transient_to_detached(made)
        session.add(made)
        await refused(made.awaitable_attrs.orders)
        await refused(session.refresh(made), missing=True)
        made.name = "stolen"
        await refused(session.flush())
        await session.rollback()
        session.expunge_all()
        held = {one.id: one for one in await session.scalars(_let_in(select(Note)))}
        assert held.keys() == {MINE * 10, OTHER * 10}
        other = held[OTHER * 10]
        assert await session.get(Note, OTHER * 10) is None
        await refused(other.awaitable_attrs.lines)
        await refused(session.refresh(other), missing=True)
        await session.delete(held[MINE * 10])
        session.expunge_all()

    run(router, main)


def _let_in(statement: Any) -> Any:
    return statement.execution_options(**ALLOWED)


def test_doors(router: Router) -> None:
    """Connections, engines and other partitions are refused, until the block ends."""

    async def main(session: AsyncRoutingSession) -> None:
        shard = {"shard": "shop/s1"}
        await refused(session.connection())
        await refused(session.connection(bind_arguments=shard))
        await refused(session.run_sync(lambda inner: inner.connection(bind_arguments=shard)))
        await refused(session.run_sync(lambda inner: inner.execute(text("SELECT 1"))))
        with pytest.raises(RoutingError, match="R215"):
            session.get_bind(Order)
        if hasattr(session, "get_async_bind"):
            with pytest.raises(RoutingError, match="R215"):
                session.get_async_bind(Order)
        for guard in (True, False):
            with (
                pytest.raises(RoutingError, match="R215"),
                session.partition(OTHER, keyspace="shop", guard=guard),
            ):
                pass
        connection = await session.connection(shard, execution_options=ALLOWED)
        every = await connection.execute(select(Tenant.__table__.c.id))
        assert sorted(every.scalars()) == [MINE, OTHER]

    run(router, main)


def test_handlers_and_tasks(router: Router) -> None:
    """A handler may replace a statement; a task that has the session is in its partition, too."""

    async def main(session: AsyncRoutingSession) -> None:
        def replace(state: Any) -> None:
            if state.is_select:
                state.statement = select(Tenant.__table__.c.id)

        event.listen(session.sync_session, "do_orm_execute", replace)
        await refused(session.execute(select(Tenant.id)))
        event.remove(session.sync_session, "do_orm_execute", replace)
        task = asyncio.create_task(session.execute(select(Tenant.id)))
        assert (await task).scalars().all() == [MINE]

    run(router, main)


# -- every way -----------------------------------------------------------------------------------


@pytest.fixture
def lite(make_databases: MakeDatabases) -> Iterator[tuple[Router, str]]:
    """The same on SQLite, and a database for the tenant alone."""
    *urls, single = make_databases("sqlite", 4)
    with tenants(urls) as router:
        yield router, single


def guarded_case(case: Callable[[Any], Any]) -> Callable[[Session], Any]:
    """Return what gives the outcome of a case and the rows that it leaves."""

    def outcome(session: Session) -> Any:
        # The case is given a session that knows of partitions: the inner one.
        found = case(session)
        session.flush()
        options = {"execution_options": ALLOWED} if hasattr(session, "partition") else {}
        place = {"shard": "shop/s1"} if hasattr(session, "partition") else {}
        return found, rows(session.connection(place, **options), mine=True)

    return outcome


def test_every_way_is_answered(lite: tuple[Router, str]) -> None:
    """What a synchronous session does, it does in `run_sync`."""
    router, single = lite
    failed = {}

    async def main(session: AsyncRoutingSession) -> None:
        for name, case in ANSWERED.items():
            with plain() as other:
                theirs = guarded_case(case)(other)
            ours = await session.run_sync(guarded_case(case))
            if ours != theirs:
                failed[name] = ours
            await session.rollback()
            session.expunge_all()

    with alone(single) as plain:
        run(router, main)
    assert not failed


def test_every_other_way_is_refused(lite: tuple[Router, str]) -> None:
    """What a synchronous session does not do, it does not do in `run_sync`."""
    router, _ = lite
    passed = {}

    async def main(session: AsyncRoutingSession) -> None:
        for name, case in REFUSED.items():
            try:
                passed[name] = [await session.run_sync(case)]
            except RouterError as error:
                if error.id != "R215":
                    passed[name] = [error]
            await session.rollback()
            session.expunge_all()

    run(router, main)
    assert not passed
