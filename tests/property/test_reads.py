"""Every statement is answered as one database answers it, or refused."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from router import CrossShardError
from tests.property.statements import Builder
from tests.property.worlds import World, misplaced, world

STATEMENTS = int(os.environ.get("ROUTER_STATEMENTS", "250"))
"""Statements for each world; set the variable for a longer run."""


@pytest.fixture(scope="module", params=range(10))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Ten worlds: maps of one to five shards, of all pure functions."""
    directory: Path = tmp_path_factory.mktemp("world")
    with world(request.param, directory) as built:
        yield built


def test_rows_lie_where_their_keys_say(made: World) -> None:
    """After a flush of every table no row is on a shard that its key does not name."""
    assert misplaced(made) == []


def test_statements(made: World, request: pytest.FixtureRequest) -> None:
    """Random statements: equal rows or a refusal, and by no means only refusals."""
    choose = random.Random(request.node.name + os.environ.get("ROUTER_SEED", ""))
    answered = 0
    for _ in range(STATEMENTS):
        statement = Builder(choose).statement()
        with made.routed() as routed, made.plain() as plain:
            try:
                ours = Counter(map(tuple, routed.execute(statement)))
            except CrossShardError:
                continue
            theirs = Counter(map(tuple, plain.execute(statement)))
            where = made.router.target(statement)
            assert ours == theirs, f"{made.functions}\n{where}\n{_sql(statement, made)}"
            answered += 1
    assert answered > STATEMENTS / 4


def _sql(statement: object, made: World) -> str:
    engine = next(iter(made.router.engines.values()))
    compiled = statement.compile(engine, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
    return str(compiled)
