"""Every write changes what it changes in one database, or is refused; no row is misplaced."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc as sa_exc
from sqlalchemy import select

from router import CrossShardError, RoutingError
from router.route.binds import ReferenceTable, ShardedTable
from tests.property.worlds import Base, World, misplaced, world
from tests.property.writes import WriteBuilder

WRITES = int(os.environ.get("ROUTER_STATEMENTS", "120"))
SEED = os.environ.get("ROUTER_SEED", "")


@pytest.fixture(scope="module", params=range(6))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Six worlds: maps of one to five shards, of all pure functions."""
    directory: Path = tmp_path_factory.mktemp("world")
    with world(f"writes {request.param}{SEED}", directory) as built:
        yield built


def test_writes(made: World, request: pytest.FixtureRequest) -> None:
    """Random writes: the same rows afterwards as in one database, each on its shard."""
    choose = random.Random(request.node.name + SEED)
    outcomes: Counter[str] = Counter()
    for _ in range(WRITES // 2):
        structure = choose.randrange(2**32)
        for _ in range(2):
            builder = WriteBuilder(random.Random(structure), random.Random(choose.random()))
            outcomes[_outcome(made, *builder.write())] += 1
    assert outcomes["written"] > WRITES / 5
    assert outcomes["invalid"] < WRITES / 3
    assert misplaced(made) == []


def _outcome(made: World, statement: Any, params: Any) -> str:
    with made.routed() as routed, made.plain() as plain:
        try:
            plain.execute(statement, params)
        except sa_exc.SQLAlchemyError:
            return "invalid"
        try:
            routed.execute(statement, params)
        except (CrossShardError, RoutingError):
            return "refused"
        message = (
            f"{made.functions}\n{statement}\n{params}\n{made.router.target(statement, params)}"
        )
        for table in Base.metadata.sorted_tables:
            theirs = Counter(map(tuple, plain.execute(select(table))))
            for ours in _contents(made, routed, table):
                assert ours == theirs, message
        assert _astray(made, routed) == [], message
        return "written"


def _contents(made: World, session: Any, table: Any) -> list[Counter[Any]]:
    """Return the rows of a table; of a reference table, the rows of every copy."""
    binding = made.router.wiring.binds.of_table(table)
    if not isinstance(binding, ReferenceTable):
        return [Counter(map(tuple, session.execute(select(table))))]
    places = [{"database": name} for name in binding.databases]
    return [
        Counter(map(tuple, session.execute(select(table), bind_arguments=place)))
        for place in places
    ]


def _astray(made: World, session: Any) -> list[str]:
    """Return the rows that lie on a shard which their key does not name."""
    found = []
    for table in Base.metadata.sorted_tables:
        binding = made.router.wiring.binds.of_table(table)
        if not isinstance(binding, ShardedTable):
            continue
        for shard in binding.keyspace.shards:
            place = {"shard": binding.keyspace.shard_id(shard)}
            for row in session.execute(select(table), bind_arguments=place).mappings():
                key = tuple(row[name] for name in binding.key)
                if made.router.wiring.home(binding.keyspace, key).shard != place["shard"]:
                    found.append(f"{table.name} {dict(row)} lies on {shard}")
    return found
