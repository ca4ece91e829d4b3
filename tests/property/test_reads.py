"""Every statement is answered as one database answers it, or refused."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc as sa_exc

from router import CrossShardError, RoutingError
from tests.property.statements import Builder
from tests.property.traps import Traps
from tests.property.worlds import World, misplaced, world

STATEMENTS = int(os.environ.get("ROUTER_STATEMENTS", "250"))
"""Statements for each world; set the variable for a longer run, ROUTER_SEED for another one."""

SEED = os.environ.get("ROUTER_SEED", "")
WORLDS = 10


@pytest.fixture(scope="module", params=range(WORLDS))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Ten worlds: maps of one to five shards, of all pure functions."""
    directory: Path = tmp_path_factory.mktemp("world")
    with world(f"{request.param}{SEED}", directory) as built:
        yield built


def test_rows_lie_where_their_keys_say(made: World) -> None:
    """After a flush of every table no row is on a shard that its key does not name."""
    assert misplaced(made) == []


def test_statements(made: World, request: pytest.FixtureRequest) -> None:
    """Random statements: equal rows or a refusal, and by no means only refusals."""

    def build(choose: random.Random, values: random.Random) -> tuple[Any, dict[str, Any]]:
        builder = Builder(choose, values)
        return builder.statement(), builder.params

    answered = _outcomes(made, request.node.name, build)
    assert answered["all"] + answered["some"] + answered["one"] > STATEMENTS / 4
    assert answered["invalid"] < STATEMENTS / 20


def test_traps(made: World, request: pytest.FixtureRequest) -> None:
    """What routers get wrong: equal rows or a refusal."""
    answered = _outcomes(made, request.node.name, lambda *sources: Traps(*sources).any())
    assert answered["all"] + answered["some"] + answered["one"] > STATEMENTS / 10
    assert answered["invalid"] == 0


def _outcomes(made: World, name: str, build: Any) -> Counter[str]:
    choose = random.Random(name + SEED)
    answered: Counter[str] = Counter()
    for _ in range(STATEMENTS // 2):
        structure = choose.randrange(2**32)
        # The second statement has the shape of the first, and other values.
        for _ in range(2):
            built = build(random.Random(structure), random.Random(choose.randrange(2**32)))
            answered[_outcome(made, *built)] += 1
    sys.stdout.write(f"{sum(answered.values())} statements: {dict(answered)}\n")
    return answered


def _outcome(made: World, statement: Any, params: dict[str, Any]) -> str:
    """Return how far the statement reached, if at all, having compared its rows."""
    with made.routed() as routed, made.plain() as plain:
        try:
            theirs = Counter(map(tuple, plain.execute(statement, params)))
        except sa_exc.SQLAlchemyError:
            return "invalid"
        try:
            ours = Counter(map(tuple, routed.execute(statement, params)))
        except CrossShardError:
            return "refused"
        except RoutingError as error:
            if error.id != "R304":
                raise
            return "refused"
        where = made.router.target(statement, params)
        assert ours == theirs, f"{made.functions}\n{where}\n{params}\n{_sql(statement, made)}"
        return where.reach.value


def _sql(statement: Any, made: World) -> str:
    engine = next(iter(made.router.engines.values()))
    statement = getattr(statement, "_resolved", statement)
    return f"{statement.compile(engine)}\n{statement.compile(engine).params}"
