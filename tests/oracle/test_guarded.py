"""Guarded sessions answer and write as if their key were alone, or refuse.

``ROUTER_STATEMENTS`` and ``ROUTER_SEED`` choose how many statements and units of work, and which.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from router import RouterError
from router.testing import Outcome
from tests.oracle.guarded import KEYS, Guarded, guarded, rows, world
from tests.oracle.guarded_units import GuardedUnits
from tests.oracle.report import Report, run
from tests.oracle.units import Action
from tests.support.broker import Servers
from tests.support.databases import fresh_databases

STATEMENTS = int(os.environ.get("ROUTER_STATEMENTS", "150"))
UNITS = max(20, STATEMENTS // 5)
EVERY = max(1, UNITS // 200)
"""How many units there are from one look at all rows to the next."""
SEED = os.environ.get("ROUTER_SEED", "")
ANSWERED_SHARE = 0.85
"""Of what one database answers, so much is not refused."""
UNITS_SHARE = 0.5
"""So many actions are not refused; some are about other keys."""

KINDS = ("sqlite", "postgresql", "mariadb")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(0 if STATEMENTS > 1000 else 300),
]


@pytest.fixture(params=KINDS)
def dialect(request: pytest.FixtureRequest) -> str:
    """Each kind of database."""
    return str(request.param)


@pytest.fixture
def make(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Makes fresh databases."""
    with fresh_databases(servers, tmp_path_factory.mktemp("guarded")) as made:
        yield made


def test_statements(dialect: str, make: Any) -> None:
    """Every answer is that of a database with the rows of the key alone; few are refused."""
    with world(dialect, SEED, make, tickets=True) as made:
        total: Counter[Outcome] = Counter()
        for at, key in enumerate(KEYS):
            before = _others(made, key)
            numbers = range(at, STATEMENTS, len(KEYS))
            report = run(made.oracle(key), dialect, f"guarded {SEED}", numbers)
            sys.stdout.write("\n".join(_lines(report, key)) + "\n")
            shown = "\n\n".join(f"{one.number}: {one.comparison}" for one in report.failed[:5])
            assert not report.failed, shown
            assert _others(made, key) == before
            total.update(report.outcomes)
    answerable = total.total() - total[Outcome.INVALID]
    assert total[Outcome.EQUAL] > ANSWERED_SHARE * answerable


def _lines(report: Report, key: int) -> Iterator[str]:
    yield f"guarded by {key}"
    ids: Counter[str] = Counter()
    for some in report.refused.values():
        ids.update(one.id for one in some)
    yield f"refused by id: {dict(ids.most_common())}"
    yield from report.lines()


def _others(made: Guarded, key: int) -> list[Any]:
    return [rows(engine, key, mine=False) for engine in made.router.engines.values()]


def test_units_of_work(dialect: str, make: Any) -> None:
    """Rows of other keys stay as they are; those of the key become what they do alone."""
    outcomes: Counter[str] = Counter()
    with world(dialect, SEED, make, tickets=False) as made:
        for key in KEYS:
            made.fill(key, SEED)
            outcomes += _compare_units(made, key)
    sys.stdout.write("\n".join(f"{key}: {count}" for key, count in sorted(outcomes.items())) + "\n")
    equal = sum(count for name, count in outcomes.items() if name.endswith("equal"))
    assert equal > outcomes.total() * UNITS_SHARE


def _compare_units(made: Guarded, key: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    units = GuardedUnits(SEED, key)
    before = _others(made, key)
    sessions, engine = guarded(made.router, key), made.engines[key]
    home = made.router.engine_for("shop", key)
    for number in range(UNITS // len(KEYS)):
        done: list[str] = []
        with sessions() as routed, Session(engine) as plain:
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
        if number % EVERY == 0:
            message = f"key {key}, unit {number}: {done}"
            assert _others(made, key) == before, message
            assert rows(home, key, mine=True) == rows(engine, key, mine=True), message
    assert _others(made, key) == before
    return outcomes


INVALID = (
    sa_exc.IntegrityError,
    sa_exc.NoResultFound,
    sa_exc.InvalidRequestError,
    StaleDataError,
    ObjectDeletedError,
)


def _outcome(routed: Session, plain: Session, action: Action, message: str) -> str:
    try:
        theirs = action(plain)
    except INVALID:
        theirs = None
    try:
        ours = action(routed)
    except RouterError as error:
        return "invalid" if theirs is None else f"{error.id} refused"
    except sa_exc.IntegrityError:
        # The primary key of a row of another key may be in the way.
        return "collides"
    except INVALID:
        assert theirs is None, message
        return "invalid"
    assert ours == theirs, f"{message}: {ours} {theirs}"
    return "equal"
