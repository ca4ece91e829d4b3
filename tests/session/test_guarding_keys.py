"""Guarded partitions whose keys are pairs, NULL, in a directory, or looked up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import ObjectDeletedError

from router import Router, RouterError
from tests.conftest import MakeDatabases
from tests.session.guarded_pair_cases import ANSWERED, REFUSED
from tests.session.guarded_pairs import GUARDED, Item, Key, alone, owners, rows

REFUSALS = ("R215", "R202", "R305")
"""What is not about the key, does not tell its key, or may be about other shards."""


class World(NamedTuple):
    """Owners who share a shard, and sessions of a database where one is alone."""

    router: Router
    plain: sessionmaker[Session]
    key: Key


@pytest.fixture(params=GUARDED, ids=str)
def world(request: pytest.FixtureRequest, make_databases: MakeDatabases) -> Iterator[World]:
    """Fresh databases for each of the guarded keys."""
    *urls, single = make_databases("sqlite", 3)
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
