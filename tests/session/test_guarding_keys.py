"""Guarded partitions whose keys are pairs, NULL, in a directory, or looked up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, MetaData, Table, delete, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import ObjectDeletedError

from router import Router, RouterError, RoutingError
from tests.conftest import MakeDatabases
from tests.session import guarded, guarded_cases
from tests.session.guarded import ELSEWHERE, MINE, OTHER, Note, Order, Tenant, Vehicle
from tests.session.guarded_pair_cases import ANSWERED, REFUSED
from tests.session.guarded_pairs import GUARDED, Item, Key, alone, owners, rows

REFUSALS = ("R215", "R202", "R305")
"""What is not about the key, does not tell its key, or may be about other shards."""


class World(NamedTuple):
    """Owners who share a shard, and sessions of a database where one is alone."""

    router: Router
    plain: sessionmaker[Session]
    key: Key


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Kinds of databases whose writes can return rows."""
    return str(request.param)


@pytest.fixture(params=GUARDED, ids=str)
def world(
    request: pytest.FixtureRequest, kind: str, make_databases: MakeDatabases
) -> Iterator[World]:
    """Fresh databases for each of the guarded keys."""
    *urls, single = make_databases(kind, 3)
    with owners(urls) as router, alone(single, request.param) as plain:
        yield World(router, plain, request.param)


def test_a_pair_is_alone(world: World) -> None:
    """Every way to read or write gives, and leaves, what it does where the key is alone."""
    failed = {name: found for name in ANSWERED if (found := compared(world, name))}
    assert not failed


def compared(world: World, name: str) -> Any:
    """Return what is different from a database where the key is alone, None if nothing is."""
    key, case = world.key, ANSWERED[name]
    with world.plain() as session:
        theirs = case(session, key)
        left = rows(session.connection(), key, mine=True)
    before = others(world)
    with world.router.sessionmaker()() as session:
        try:
            with session.partition(key, keyspace="shop", guard=True):
                ours = case(session, key)
                session.flush()
        except RouterError as error:
            return error
        connection = session.connection(bind_arguments={"shard": "shop/s0"})
        ours_left = rows(connection, key, mine=True)
        after = rows(connection, key, mine=False)
    if (ours, ours_left, after) == (theirs, left, before):
        return None
    return (ours, theirs) if ours != theirs else (ours_left, left, after, before)


def test_what_may_be_about_other_pairs_is_refused(world: World) -> None:
    """Half of a key is not the key, and NULL is no other key's part."""
    before = others(world)
    passed = {name: found for name in REFUSED if (found := answered(world, name))}
    assert not passed
    assert others(world) == before


def answered(world: World, name: str) -> Any:
    """Return what comes of a case other than its refusal, None if nothing does."""
    guarded = world.router.sessionmaker()
    with guarded() as session, session.partition(world.key, keyspace="shop", guard=True):
        try:
            return [REFUSED[name](session, world.key)]
        except RouterError as error:
            if error.id not in REFUSALS:
                return error
        except (ObjectDeletedError, InvalidRequestError):
            # As if the row were not there.
            pass
        session.rollback()
        assert session.scalars(select(Item.region)).first() == world.key[0]
        session.commit()
    return None


def others(world: World) -> dict[str, list[Any]]:
    """Return all rows that are not the guarded key's."""
    with world.router.engines["d0"].connect() as connection:
        return rows(connection, world.key, mine=False)


# -- directories and lookup tables -----------------------------------------------------------------


def placed(urls: list[str]) -> dict[str, Any]:
    """Return a map with a directory in the main database."""
    data = guarded.shard_map(urls)
    place = {"function": "modulo"}
    data["keyspaces"]["shop"]["sharding"] = {
        "function": "directory",
        "database": "main",
        "place": place,
    }
    return data


def looked_up(urls: list[str]) -> dict[str, Any]:
    """Return a map with lookup tables for the titles of notes and the names of tenants."""
    data = guarded.shard_map(urls)
    data["unique"] = {
        "title": {"table": "notes", "columns": "title", "keyspace": "books"},
        "name": {"table": "tenants", "columns": "name", "keyspace": "books"},
    }
    return data


SEVERAL = ("merge", "bulk", "values of other rows")
"""What is refused for the sake of lookup tables, guarded or not."""


@pytest.fixture
def urls(make_databases: MakeDatabases) -> list[str]:
    """Fresh databases: the main one, two shards, and one where a tenant is alone."""
    return make_databases("sqlite", 4)


@pytest.fixture
def known(urls: list[str]) -> Iterator[Router]:
    """Tenants whose keys are in a directory."""
    with guarded.tenants(urls[:3], placed(urls[:3])) as router:
        yield router


@pytest.fixture
def unique(urls: list[str]) -> Iterator[Router]:
    """Tenants whose names, and whose notes' titles, are unique over all shards."""
    with guarded.tenants(urls[:3], looked_up(urls[:3])) as router:
        with router.engines["main"].begin() as connection:
            for one in (MINE, OTHER, ELSEWHERE):
                name = {"name": f"t{one}", "id": one}
                title = {"title": f"n{one}", "id": one * 10, "tenant_id": one}
                for lookup, row in (("name", name), ("title", title)):
                    table = Table(f"router_unique_{lookup}", MetaData(), autoload_with=connection)
                    connection.execute(insert(table), row)
        yield router


def everything(engine: Engine) -> dict[str, list[Any]]:
    """Return all rows of a database."""
    with engine.connect() as connection:
        names = inspect(connection).get_table_names()
        return {
            name: sorted(map(tuple, connection.execute(text(f"SELECT * FROM {name}"))))
            for name in names
        }


@pytest.mark.parametrize("found", ["known", "unique"])
def test_a_tenant_is_alone(request: pytest.FixtureRequest, urls: list[str], found: str) -> None:
    """Wherever its keys are found, a guarded session answers as if the tenant were alone."""
    router: Router = request.getfixturevalue(found)
    before, main = guarded.rows_of_others(router), everything(router.engines["main"])
    failed = {}
    with guarded.alone(urls[3]) as plain:
        for name, case in guarded_cases.ANSWERED.items():
            with plain() as session:
                theirs = case(session), guarded.rows(session.connection(), mine=True)
            with router.sessionmaker()() as session:
                try:
                    with session.partition(MINE, keyspace="shop", guard=True):
                        ours: Any = case(session)
                        session.flush()
                except RouterError as error:
                    failed[name] = error.id
                    continue
                connection = session.connection(bind_arguments={"shard": "shop/s1"})
                if (ours, guarded.rows(connection, mine=True)) != theirs:
                    failed[name] = ours
    assert failed == (dict.fromkeys(SEVERAL, "R313") if found == "unique" else {})
    assert guarded.rows_of_others(router) == before
    assert everything(router.engines["main"]) == main


@pytest.mark.parametrize("found", ["known", "unique"])
def test_what_may_be_about_others_is_refused(request: pytest.FixtureRequest, found: str) -> None:
    """Nothing is sent: neither to the shard nor to the tables by which keys are found."""
    router: Router = request.getfixturevalue(found)
    before, main = guarded.rows_of_others(router), everything(router.engines["main"])
    failed = {}
    for name, case in guarded_cases.REFUSED.items():
        with router.sessionmaker()() as session:
            session.info["engine"] = router.engines["d1"]
            with session.partition(MINE, keyspace="shop", guard=True):
                try:
                    failed[name] = [case(session)]
                except RouterError as error:
                    if error.id not in ("R215", "R313"):
                        failed[name] = [error]
                session.rollback()
    assert not failed
    assert guarded.rows_of_others(router) == before
    # A key that nobody has been given is not placed for the sake of an error.
    assert everything(router.engines["main"]) == main


NEW = 5
"""A tenant that is in no directory yet."""

PLACING: dict[str, Any] = {
    "insert": lambda s: s.execute(insert(Order).values(tenant_id=NEW, number=1)),
    "insert of rows": lambda s: s.execute(
        insert(Order), [{"tenant_id": one, "number": 9} for one in (MINE, NEW)]
    ),
    "bulk insert": lambda s: s.bulk_insert_mappings(Order, [{"tenant_id": NEW, "number": 1}]),
    "bulk objects": lambda s: s.bulk_save_objects([Order(tenant_id=NEW, number=1)]),
    "add": lambda s: (s.add(Order(tenant_id=NEW, number=1)), s.flush()),
    "several": lambda s: (s.add_all([Tenant(id=NEW, name=""), Tenant(id=7, name="")]), s.flush()),
    "merge": lambda s: (s.merge(Tenant(id=NEW, name="")), s.flush()),
    "a subclass": lambda s: (s.add(Vehicle(tenant_id=NEW, number=1, wheels=1)), s.flush()),
    "move": lambda s: (setattr(s.get_one(Note, MINE * 10), "tenant_id", NEW), s.flush()),
    "partition": lambda s: s.partition(NEW, keyspace="shop", guard=True).__enter__(),
    "connection": lambda s: s.connection(bind_arguments={"keyspace": "shop", "shard_key": NEW}),
}


@pytest.mark.parametrize("name", PLACING)
def test_no_other_key_is_placed(known: Router, name: str) -> None:
    """A directory does not learn of keys by what is refused."""
    main = everything(known.engines["main"])
    with known.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        with pytest.raises(RoutingError, match="R215"):
            PLACING[name](session)
        session.rollback()
        assert session.get(Order, (NEW, 1)) is None
    assert everything(known.engines["main"]) == main


def test_a_new_key_of_ones_own(known: Router) -> None:
    """The guarded key is placed by its first row, as ever."""
    with known.sessionmaker()() as session, session.partition(NEW, keyspace="shop", guard=True):
        assert session.scalars(select(Tenant)).all() == []
        session.add(Tenant(id=NEW, name="new", orders=[Order(number=1)]))
        session.commit()
        assert session.scalars(select(Order.tenant_id)).all() == [NEW]
    assert known.engine_for("shop", NEW) is known.engines["d1"]
    assert len(everything(known.engines["main"])["router_directory"]) == 4


def test_values_that_others_have(unique: Router) -> None:
    """Lookup tables lead to no row of another, and rows of theirs stay."""
    titles = [f"n{one}" for one in (MINE, OTHER, ELSEWHERE)]
    before, main = guarded.rows_of_others(unique), everything(unique.engines["main"])
    with unique.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        for title in titles:
            own = [MINE * 10] if title == titles[0] else []
            assert session.scalars(select(Note.id).where(Note.title == title)).all() == own
        assert session.scalars(select(Note.id).where(Note.title.in_(titles))).all() == [MINE * 10]
        for title in titles[1:]:
            for write in (update(Note).values(title="x"), delete(Note)):
                assert session.execute(write.where(Note.title == title)).rowcount == 0  # type: ignore[attr-defined]
            for taken in (
                lambda title=title: setattr(session.get_one(Note, MINE * 10), "title", title),
                lambda title=title: session.add(Note(id=77, tenant_id=MINE, title=title)),
            ):
                taken()
                with pytest.raises(IntegrityError):
                    session.flush()
                session.rollback()
        assert session.execute(update(Note).values(title=Note.title + "!")).rowcount == 1  # type: ignore[attr-defined]
        assert session.execute(delete(Note)).rowcount == 1  # type: ignore[attr-defined]
        session.add(Note(id=78, tenant_id=MINE, title="n1"))
        session.commit()
    after = everything(unique.engines["main"])
    changed = {name for name in main if main[name] != after[name]}
    assert changed == {"router_unique_title"}
    gone, came = (set(one["router_unique_title"]) for one in (main, after))
    assert (gone - came, came - gone) == ({("n1", 10, 1)}, {("n1", 78, 1)})
    assert guarded.rows_of_others(unique) == before
