"""Generated statements: what one database answers, or a refusal; never anything else.

``ROUTER_STATEMENTS`` and ``ROUTER_SEED`` choose how many and which; ``python -m tests.oracle``
runs them by the ten thousands and reports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest
from sqlalchemy import func, select

from router.testing import Oracle, Outcome
from router.testing.servers import ServerError
from tests.conftest import NOT_RUN
from tests.oracle.report import UNUSUAL, Report, run
from tests.oracle.schema import Customer, Order
from tests.oracle.worlds import DIALECTS, icu_databases, world
from tests.support.broker import Servers
from tests.support.colours import Colour
from tests.support.databases import fresh_databases

STATEMENTS = int(os.environ.get("ROUTER_STATEMENTS", "250"))
SEED = os.environ.get("ROUTER_SEED", "")
REFUSED_SHARE = 0.01
INVALID_SHARE = 0.05

pytestmark = [
    # The single database's warnings, of Decimals on SQLite or of products, are not ours.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(0 if STATEMENTS > 2000 else 300),
]


@dataclass(frozen=True)
class World:
    """An oracle, and what it is asked through."""

    dialect: str
    colour: Colour
    oracle: Oracle


WORLDS = [
    *((dialect, Colour.SYNC) for dialect in DIALECTS),
    *((dialect, Colour.ASYNC) for dialect in DIALECTS if dialect != "postgresql-icu"),
]


@pytest.fixture(scope="module", params=WORLDS, ids=lambda pair: f"{pair[0]}-{pair[1].value}")
def asked(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The traps on every dialect, PostgreSQL with C and with ICU collations."""
    dialect, colour = request.param
    with ExitStack() as stack:
        if dialect == "postgresql-icu":
            try:
                made = stack.enter_context(
                    world(dialect, SEED, stack.enter_context(icu_databases()), colour)
                )
            except ServerError as error:
                pytest.skip(f"{NOT_RUN} {error.what}")
        else:
            directory = tmp_path_factory.mktemp("oracle")
            make = stack.enter_context(fresh_databases(servers, directory))
            made = stack.enter_context(world(dialect, SEED, make, colour))
        yield World(dialect, colour, made)


@pytest.fixture(scope="module")
def report(asked: World) -> Report:
    """What came of the statements."""
    statements = partial(run, asked.oracle, asked.dialect, SEED, range(STATEMENTS))
    made = asked.colour.within(statements, asked.oracle.router)
    sys.stdout.write("\n".join(made.lines()) + "\n")
    return made


def test_no_answer_is_wrong(report: Report) -> None:
    """Every answer is one that one database could give, and nothing fails inside."""
    shown = "\n\n".join(f"number {one.number}: {one.comparison}" for one in report.failed[:5])
    assert not report.failed, shown


def test_few_statements_are_refused(report: Report) -> None:
    """Of what one database answers, under one in a hundred is refused, and nothing ordinary."""
    ordinary = [reason for reason in report.refused if reason.split(":")[0] not in UNUSUAL]
    assert ordinary == []
    assert report.refused_share < REFUSED_SHARE


def test_the_statements_are_worth_something(report: Report) -> None:
    """Nearly all of them are valid, and every kind has been answered."""
    assert report.outcomes[Outcome.INVALID] < INVALID_SHARE * STATEMENTS
    answered = {kind for kind, outcome in report.kinds if outcome is Outcome.EQUAL}
    assert answered == {kind for kind, _ in report.kinds}
    assert report.tiers["MERGED"] > STATEMENTS / 20
    assert report.tiers["GATHERED"] > STATEMENTS / 20


def test_one_statement_has_one_time_and_one_dice(asked: World) -> None:
    """What differs from call to call is refused, or has one value for all shards."""
    with asked.oracle.router.sessionmaker()() as session:
        moments = select(func.now(), Customer.id).order_by(Customer.name)
        assert len({row[0] for row in session.execute(moments)}) == 1
        drawn = session.execute(select(Order.number).order_by(func.random()).limit(3)).all()
        assert len(drawn) == 3
