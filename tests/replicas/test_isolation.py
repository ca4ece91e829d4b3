"""Savepoints, and transactions that replicas do not have."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import column, select
from sqlalchemy.exc import DBAPIError

from router import Router
from tests.replicas.world import NAMES, PRIMARY, World
from tests.session.shop import Account, Base, Customer, shard_map

NAME = select(Account.name)


@pytest.mark.parametrize("before", [True, False], ids=["chosen", "not chosen"])
def test_a_read_that_fails_in_a_savepoint(world: World, before: bool) -> None:
    """Once that is undone the transaction goes on, as it does in one database."""
    broken: Any = select(column("no_such_column")).select_from(Account)
    with world.router.sessionmaker()() as session:
        if before:
            assert session.scalar(NAME) == "old"
        with pytest.raises(DBAPIError), session.begin_nested():
            session.scalar(broken)
        assert PRIMARY not in world.numbers()
        assert session.scalar(NAME) == "old"
        assert len(session.scalars(select(Customer)).all()) == 2
        session.commit()
        world.places()
        assert session.scalar(NAME) == "old"
        assert PRIMARY not in world.numbers()


@pytest.mark.parametrize("how", ["engine", "options"])
def test_serializable_by_the_map(world: World, how: str) -> None:
    """Databases whose transactions are all serializable are read on their primaries."""
    data = shard_map([world.servers.url(world.names[name]) for name in NAMES])
    level = {"isolation_level": "SERIALIZABLE"}
    for name in NAMES:
        data["databases"][name]["replicas"] = [world.servers.replica_url(0, world.names[name])]
    data["databases"]["main"]["engine"] = level if how == "engine" else {"execution_options": level}
    data["replication"] = {"max_lag": None}
    world.pause()
    with world.router.sessionmaker().begin() as session:
        session.add_all([Account(id=2, name="new"), Customer(id=2, name="new")])
    with (
        Router.from_dict(data, metadata=Base.metadata) as router,
        router.sessionmaker()() as session,
    ):
        assert sorted(session.scalars(NAME)) == ["new", "old"]
        assert len(session.scalars(select(Customer)).all()) == 2
