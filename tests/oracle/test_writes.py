"""Random units of work leave the shards as they leave one database, or are refused.

``ROUTER_STATEMENTS`` and ``ROUTER_SEED`` choose how many and which.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
from sqlalchemy import exc as sa_exc
from sqlalchemy import insert, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from router import Router, RouterError
from router.route.binds import ReferenceTable, ShardedTable
from tests.oracle import schema
from tests.oracle.rows import Rows, spread
from tests.oracle.units import MODELS, Action, Units, objects
from tests.support.broker import Servers
from tests.support.colours import Colour
from tests.support.databases import fresh_databases

UNITS = int(os.environ.get("ROUTER_STATEMENTS", "12"))
EVERY = max(1, UNITS // 200)
"""How many units there are from one look at all rows to the next."""
KEPT = 10
"""How many units may leave something behind that lasts, as caches do."""
SEED = os.environ.get("ROUTER_SEED", "")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(0 if UNITS > 200 else 300),
]


class Pair(NamedTuple):
    """A router of the shards, and one of one database."""

    router: Router
    single: Router


Make = Callable[[], Any]
SINGLE = "single"
KINDS = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(params=KINDS)
def pair(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """The shards, and one database with the same tables, constraints and rows."""
    dialect = request.param
    with fresh_databases(servers, tmp_path_factory.mktemp("writes")) as make:
        *shards, single = make(dialect, schema.DATABASES + 1)
        rows = [pair for pair in Rows(SEED, dialect).all() if pair[0] is not schema.Ticket]
        with (
            Router.from_dict(schema.shard_map(shards), metadata=schema.Base.metadata) as router,
            Router.from_dict(_map_of_one(single)) as one,
        ):
            schema.Base.metadata.create_all(one.engines[SINGLE])
            router.create_all()
            spread(router, rows)
            with one.engines[SINGLE].begin() as connection:
                for model, some in rows:
                    connection.execute(insert(getattr(model, "__table__", model)), some)
            yield Pair(router, one)
        gc.unfreeze()


def _map_of_one(url: str) -> dict[str, Any]:
    return {
        "version": 1,
        "databases": {SINGLE: {"url": url}},
        "keyspaces": {"all": {"database": SINGLE}},
    }


@pytest.mark.parametrize("colour", Colour)
def test_units_of_work(pair: Pair, colour: Colour, request: pytest.FixtureRequest) -> None:
    """What is seen of each action, of all objects after it, and of all rows now and then."""
    units = Units(f"{request.node.name}{SEED}")
    makes = colour.sessions(pair.router), colour.plain_sessions(pair.single, SINGLE)
    outcomes = colour.within(partial(_compare_units, pair.router, units, *makes), *pair)
    sys.stdout.write("\n".join(f"{key}: {count}" for key, count in sorted(outcomes.items())) + "\n")
    equal = sum(count for key, count in outcomes.items() if key.endswith("equal"))
    refused = {key for key in outcomes if key.endswith("refused")}
    assert equal > outcomes.total() * 0.7
    assert not refused


def _compare_units(router: Router, units: Units, routing: Make, single: Make) -> Counter[str]:
    outcomes = Counter[str]()
    for number in range(UNITS):
        if number % KEPT == 0:
            # Collecting garbage, as is done after every action, looks only at what is new.
            gc.collect()
            gc.freeze()
        with routing() as routed, single() as plain:
            done = []
            for name, action in units.unit():
                done.append(name)
                outcome = _outcome(routed, plain, action, f"unit {number}: {done}")
                outcomes[f"{name} {outcome}"] += 1
                if outcome != "equal":
                    routed.rollback()
                    plain.rollback()
                    break
            else:
                routed.commit()
                plain.commit()
        if number % EVERY == 0 or number == UNITS - 1:
            _compare_rows(router, routing, single, f"unit {number}: {done}")
    return outcomes


def _outcome(routed: Session, plain: Session, action: Action, message: str) -> str:
    try:
        theirs = action(plain)
    except (sa_exc.IntegrityError, StaleDataError, ObjectDeletedError, sa_exc.NoResultFound):
        theirs = None
    except sa_exc.InvalidRequestError:
        # It cannot be evaluated in Python.
        theirs = None
    try:
        ours = action(routed)
    except RouterError as error:
        if theirs is None:
            return "invalid"
        if error.id in ("R305", "R203"):
            raise AssertionError(f"{message}: {error}") from error
        return "refused"
    except (sa_exc.SQLAlchemyError, StaleDataError):
        if theirs is None:
            return "invalid"
        raise
    assert theirs is not None, message
    assert _same(ours, theirs), f"{message}: {ours} {theirs}"
    assert objects(routed) == objects(plain), message
    return "equal"


def _same(ours: Any, theirs: Any) -> bool:
    return bool(ours == theirs)


def _compare_rows(router: Router, routing: Make, single: Make, message: str) -> None:
    with routing() as routed, single() as plain:
        for model in MODELS:
            table: Any = model.__table__
            theirs = Counter(map(repr, plain.execute(select(table))))
            binding = router.wiring.binds.of_table(table)
            places: list[dict[str, str]] = [{}]
            if isinstance(binding, ReferenceTable):
                places = [{"database": name} for name in binding.databases]
            for place in places:
                ours = Counter(map(repr, routed.execute(select(table), bind_arguments=place)))
                assert ours == theirs, f"{message}: {table.name}"
            if isinstance(binding, ShardedTable):
                _refuse_astray(router, routed, binding, message)


def _refuse_astray(router: Router, routed: Any, binding: ShardedTable, message: str) -> None:
    table = binding.table
    for shard in binding.keyspace.shards:
        place = {"shard": binding.keyspace.shard_id(shard)}
        keys = [table.c[name] for name in binding.key]
        for key in routed.execute(select(*keys), bind_arguments=place):
            home = router.wiring.home(binding.keyspace, tuple(key)).shard
            assert home == place["shard"], f"{message}: {table.name} {key} lies on {shard}"
