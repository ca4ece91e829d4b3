"""Guarded partitions: one tenant's rows are all that there is, on a shard that many share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from sqlalchemy import event, func, insert, select, text, union, update
from sqlalchemy.orm import Session, selectinload, sessionmaker

from router import Router, RouterError, RoutingError
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
    count_of,
    rows,
    rows_of_others,
    tenants,
)
from tests.session.guarded_cases import ANSWERED, OUTSIDE, REFUSED, of_another


class World(NamedTuple):
    """Three tenants on two shards, and sessions of a database where one is alone."""

    router: Router
    plain: sessionmaker[Session]


@pytest.fixture
def world(make_databases: MakeDatabases) -> Iterator[World]:
    """Fresh databases."""
    *urls, single = make_databases("sqlite", 4)
    with tenants(urls) as router, alone(single) as plain:
        yield World(router, plain)


@pytest.fixture
def router(world: World) -> Router:
    """The router alone."""
    return world.router


def mine(session: Session) -> dict[str, list[Any]]:
    """Return all rows of the guarded tenant, in whatever session."""
    place = {"shard": "shop/s1"} if hasattr(session, "partition") else {}
    return rows(session.connection(bind_arguments=place), mine=True)


@pytest.mark.parametrize("name", ANSWERED)
def test_the_tenant_is_alone(world: World, name: str) -> None:
    """Every way to read or write gives, and leaves, what it does where the tenant is alone."""
    before = rows_of_others(world.router)
    with world.plain() as session:
        theirs = ANSWERED[name](session)
        session.commit()
        left = mine(session)
    with world.router.sessionmaker()() as session:
        with session.partition(MINE, keyspace="shop", guard=True):
            ours = ANSWERED[name](session)
            session.commit()
        assert mine(session) == left
    assert ours == theirs
    assert rows_of_others(world.router) == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_be_about_others_is_refused(router: Router, name: str) -> None:
    """What is not proven to be about the tenant is refused, and changes nothing."""
    before = rows_of_others(router)
    with router.sessionmaker()() as session:
        session.info["engine"] = router.engines["d1"]
        with session.partition(MINE, keyspace="shop", guard=True):
            with pytest.raises(RoutingError, match="R215"):
                REFUSED[name](session)
            session.rollback()
            assert session.scalars(select(Tenant.id)).all() == [MINE]
            session.commit()
    assert rows_of_others(router) == before


@pytest.mark.parametrize("name", OUTSIDE)
def test_it_is_a_partition(router: Router, name: str) -> None:
    """What leaves the shard is refused as in any partition."""
    with router.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        with pytest.raises(RoutingError, match="R208"):
            OUTSIDE[name](session)
        session.rollback()


# -- what lets through -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unguarded",
    [
        lambda s: s.execute(text("SELECT id FROM tenants"), execution_options=ALLOWED),
        lambda s: s.execute(text("SELECT id FROM tenants").execution_options(**ALLOWED)),
        lambda s: s.execute(select(Tenant.id), execution_options=ALLOWED),
        lambda s: s.execute(select(Tenant.__table__.c.id).execution_options(**ALLOWED)),
        lambda s: s.connection(execution_options=ALLOWED).execute(text("SELECT id FROM tenants")),
    ],
)
def test_one_statement_can_be_let_through(router: Router, unguarded: Any) -> None:
    """What says so sees all rows of the shard, and nothing after it does."""
    with router.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        assert sorted(unguarded(session).scalars()) == [MINE, OTHER]
        assert session.scalars(select(Tenant.id)).all() == [MINE]
        with pytest.raises(RoutingError, match="R215"):
            session.execute(text("SELECT id FROM tenants"))


ALLOWED = {"unguarded": True}


def test_what_was_let_through_stays_apart(router: Router) -> None:
    """Objects of others that the application has let in are not given to what is guarded."""
    with router.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        found = {
            one.id: one
            for model in (Tenant, Note)
            for one in session.scalars(select(model), execution_options=ALLOWED)
        }
        assert found.keys() == {MINE, OTHER, MINE * 10, OTHER * 10}
        assert session.get(Tenant, OTHER) is None
        assert session.get(Note, OTHER * 10) is None
        with pytest.raises(RoutingError, match="R215"):
            len(found[OTHER].orders)
        with pytest.raises(RoutingError, match="R215"):
            len(found[OTHER * 10].lines)
        session.expire_all()
        with pytest.raises(RoutingError, match="R215"):
            str(found[OTHER].name)
        assert found[MINE].name == "t1"


def test_a_row_below_anothers_is_not_led_to_it(router: Router) -> None:
    """A many-to-one relationship does not find another tenant's object in the session."""
    with router.engines["d1"].begin() as connection:
        stray = {"id": 5, "tenant_id": MINE, "note_id": OTHER * 10, "text": ""}
        connection.execute(insert(Line), stray)
    with router.sessionmaker()() as session:
        held = session.scalars(select(Note)).all()
        with session.partition(MINE, keyspace="shop", guard=True):
            line = session.get_one(Line, 5)
            assert line.note is None
        session.expire(line)
        assert line.note in held


# -- its beginning and its end -----------------------------------------------------------------


def test_it_ends_with_its_block(router: Router) -> None:
    """After the block, after an exception, and for objects loaded in it, nothing is guarded."""
    with router.sessionmaker()() as session:
        with session.partition(MINE, keyspace="shop", guard=True):
            note = session.get_one(Note, MINE * 10)
            eager = session.scalars(select(Note).options(selectinload(Note.lines))).one()
            assert len(eager.lines) == 2
        session.expire(note)
        assert len(note.lines) == 3
        with pytest.raises(ZeroDivisionError), session.partition(MINE, keyspace="shop", guard=True):
            raise ZeroDivisionError
        assert session.scalar(count_of(Tenant)) == 3
        assert session.get(Tenant, OTHER) is not None


def test_a_stream_stays_guarded(router: Router) -> None:
    """The eager loads of a statement that is read on after the block are guarded, too."""
    with router.sessionmaker()() as session:
        session.add(Note(id=2, tenant_id=MINE, title="second", lines=[]))
        session.commit()
        query = select(Note).options(selectinload(Note.lines)).order_by(Note.id.desc())
        with session.partition(MINE, keyspace="shop", guard=True):
            found = session.scalars(query.execution_options(yield_per=1))
            first = next(found)
        second = next(found)
        assert [len(first.lines), len(second.lines)] == [2, 0]
        found.close()


def test_objects_of_another_that_are_held(router: Router) -> None:
    """What was loaded before stays readable; what would be loaded for it is refused."""
    with router.sessionmaker()() as session:
        other, own = session.get_one(Tenant, OTHER), session.get_one(Tenant, MINE)
        session.get_one(Note, OTHER * 10)
        with session.partition(MINE, keyspace="shop", guard=True):
            assert other.name == "t3"
            assert session.get(Tenant, OTHER) is None
            with pytest.raises(RoutingError, match="R215"):
                len(other.orders)
            with pytest.raises(RoutingError, match="R215"):
                session.refresh(other)
            assert len(own.orders) == 2
            other.name = "changed"
            with pytest.raises(RoutingError, match="R215"):
                session.flush()
            session.rollback()
    with router.sessionmaker()() as session:
        assert session.get_one(Tenant, OTHER).name == "t3"


def test_nesting(router: Router) -> None:
    """A guard goes inside a plain partition, and another of the same key inside of it."""
    with router.sessionmaker()() as session, session.partition(OTHER, keyspace="shop"):
        assert session.scalar(count_of(Tenant)) == 2
        with session.partition(MINE, keyspace="shop", guard=True):
            assert session.scalars(select(Tenant.id)).all() == [MINE]
            for guard in (True, False):
                with session.partition(MINE, keyspace="shop", guard=guard):
                    assert session.scalars(select(Tenant.id)).all() == [MINE]
                with pytest.raises(RoutingError, match="R215"):
                    session.partition(OTHER, keyspace="shop", guard=guard).__enter__()
                with pytest.raises(RouterError):
                    session.partition(ELSEWHERE, keyspace="shop", guard=guard).__enter__()
        assert session.scalar(count_of(Tenant)) == 2


def test_threads(router: Router) -> None:
    """The guard is its session's: others, in other threads, see what they saw."""
    sessions = router.sessionmaker()
    found: dict[int, set[int]] = {}
    entered = threading.Barrier(3)

    def work(tenant: int) -> None:
        with sessions() as session, session.partition(tenant, keyspace="shop", guard=True):
            entered.wait()
            found[tenant] = {one for _ in range(20) for one in session.scalars(select(Tenant.id))}
            entered.wait()

    threads = [threading.Thread(target=work, args=(one,)) for one in (MINE, OTHER)]
    for one in threads:
        one.start()
    entered.wait()
    with sessions() as session:
        assert session.scalar(count_of(Tenant)) == 3
    entered.wait()
    for one in threads:
        one.join()
    assert found == {MINE: {MINE}, OTHER: {OTHER}}


def test_tasks(router: Router) -> None:
    """Asyncio sessions and their scopes have it, too; tasks do not share it."""

    async def work(sessions: Any, tenant: int) -> list[int]:
        async with sessions() as session:
            async with session.partition(tenant, keyspace="shop", guard=True):
                await asyncio.sleep(0)
                found = list(await session.scalars(select(Tenant.id)))
                with pytest.raises(RoutingError, match="R215"):
                    await session.execute(text("SELECT 1"))
                with pytest.raises(RoutingError, match="R215"):
                    await session.connection()
            return found

    async def main() -> None:
        async with router:
            sessions = router.async_sessionmaker()
            scoped = router.async_scoped_session(asyncio.current_task)
            pairs = await asyncio.gather(*(work(sessions, one) for one in (MINE, OTHER)))
            assert list(pairs) == [[MINE], [OTHER]]
            async with scoped.partition(OTHER, keyspace="shop", guard=True):
                assert list(await scoped.scalars(select(Tenant.id))) == [OTHER]
                await scoped.remove()
                assert list(await scoped.scalars(select(Tenant.id))) == [OTHER]
            await scoped.remove()

    asyncio.run(main())


def test_scopes(router: Router) -> None:
    """A scoped session's guard lasts for the scope."""
    scoped = router.scoped_session()
    with scoped.partition(MINE, keyspace="shop", guard=True):
        assert scoped.scalars(select(Tenant.id)).all() == [MINE]
        scoped.remove()
        assert scoped.scalars(select(Tenant.id)).all() == [MINE]
        with pytest.raises(RoutingError, match="R215"):
            scoped.execute(text("SELECT 1"))
    assert scoped.scalar(count_of(Tenant)) == 3
    scoped.remove()


# -- how -----------------------------------------------------------------------------------------


def test_handlers_go_first(router: Router) -> None:
    """What a handler of ``do_orm_execute`` makes of a statement is what is proven."""
    sessions = router.sessionmaker()

    def replace(state: Any) -> None:
        if state.is_select:
            state.statement = select(Tenant.__table__.c.id)

    with sessions() as session, session.partition(MINE, keyspace="shop", guard=True):
        event.listen(session, "do_orm_execute", replace)
        with pytest.raises(RoutingError, match="R215"):
            session.execute(select(Tenant.id))
        session.rollback()
        event.remove(session, "do_orm_execute", replace)
        event.listen(session, "do_orm_execute", lambda state: None)
        assert session.scalars(select(Tenant.id)).all() == [MINE]


def test_statements_are_cached(router: Router) -> None:
    """One shape serves all tenants: neither the router nor SQLAlchemy keeps a value."""
    statement = select(Order.tenant_id).join(Order.tenant).where(Order.number == 1)
    for tenant in (MINE, OTHER, ELSEWHERE, MINE):
        with (
            router.sessionmaker()() as session,
            session.partition(tenant, keyspace="shop", guard=True),
        ):
            assert session.scalars(statement).all() == [tenant]
            assert session.scalars(select(Note).options(selectinload(Note.tenant))).one().tenant
            assert session.execute(update(Note).values(title="t")).rowcount == 1


def test_set_operations_are_cached(router: Router) -> None:
    """The key in a set operation is that of its execution, not of the first one."""
    numbers = union(select(Order.tenant_id), select(Note.tenant_id))
    for key in (MINE, OTHER, MINE):
        with (
            router.sessionmaker()() as session,
            session.partition(key, keyspace="shop", guard=True),
        ):
            assert session.scalars(numbers).all() == [key]


def test_criteria_do_not_stay_with_objects(router: Router) -> None:
    """A row that moves away after the block is loaded as the row of its new tenant."""
    with router.sessionmaker()() as session:
        with session.partition(MINE, keyspace="shop", guard=True):
            note = session.scalars(select(Note)).one()
        note.tenant_id = OTHER
        session.commit()
        assert note.tenant.id == OTHER


def test_a_row_that_was_taken_meanwhile(router: Router) -> None:
    """An object whose row has become another tenant's is neither changed nor deleted."""
    with router.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        note = session.get_one(Note, MINE * 10)
        session.commit()
        assert note.title
        session.rollback()
        note = session.get_one(Note, MINE * 10)
        assert note.tenant_id == MINE
        session.commit()
        note.tenant_id  # noqa: B018 - loaded again
        session.connection(execution_options=ALLOWED).execute(
            update(Note.__table__).values(tenant_id=OTHER)
        )
        note.title = "stolen"
        with pytest.raises(RoutingError, match="R215"):
            session.flush()
        session.rollback()
        session.delete(session.get_one(Note, MINE * 10))
        session.connection(execution_options=ALLOWED).execute(
            update(Note.__table__).values(tenant_id=OTHER)
        )
        with pytest.raises(RoutingError, match="R215"):
            session.flush()
        session.rollback()


def test_what_it_says(router: Router) -> None:
    """A refusal names the table and the key's column, and no value of the key."""
    with router.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        with pytest.raises(RoutingError, match="R215") as caught:
            session.execute(select(Order.__table__))
        said = str(caught.value)
        assert "orders" in said
        assert "tenant_id" in said
        assert "unguarded" in said
        session.add(Order(tenant_id=OTHER, number=4))
        with pytest.raises(RoutingError) as caught:
            session.flush()
        assert "orders has another tenant_id" in str(caught.value)


def test_writes_of_expressions(router: Router) -> None:
    """Values that are SELECTs are guarded like any other part of a statement."""
    total = select(func.sum(Order.total)).scalar_subquery()
    own = select(func.sum(Order.total)).where(Order.tenant_id == MINE).scalar_subquery()
    with router.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        session.execute(insert(Order).values(tenant_id=MINE, number=30, total=total))
        session.execute(insert(Order).values(tenant_id=MINE, number=31, total=own))
        session.execute(update(Order).where(Order.number == 1).values(total=own))
        assert session.scalars(select(Order.total).order_by(Order.number)).all() == [8, 1, 2, 4]


def test_of_another_is_of_another(router: Router) -> None:
    """The helper of the cases above makes an object that an unguarded session can use."""
    with router.sessionmaker()() as session:
        assert len(of_another(session).orders) == 2
        assert session.scalar(count_of(Tag)) == 2
