"""A share of SQLAlchemy's own tests passes with our session; `tests.drop_in` runs all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import NOT_RUN
from tests.drop_in.databases import database
from tests.drop_in.plugin import Outcome
from tests.drop_in.report import excuse
from tests.drop_in.running import Place, run
from tests.drop_in.sessions import Kind
from tests.drop_in.source import NoSourceError, fetched

SHARE = (
    "test/orm/test_session.py",
    "test/orm/test_transaction.py",
    "test/orm/test_unitofwork.py",
    "test/orm/test_events.py",
)
# What SQLite has not: sequences, two-phase commits, versions that the server makes.
SERVER_SHARE = ("test/orm/test_transaction.py", "test/orm/test_versioning.py")
# Their names end in _py3k in SQLAlchemy 2.0.
ASYNC_SHARE = ("test/ext/asyncio/test_session*.py", "test/ext/asyncio/test_scoping*.py")
ENOUGH = 50


@pytest.fixture(scope="module")
def source() -> Path:
    """SQLAlchemy's source distribution; without a package index the test is skipped, not in CI."""
    try:
        return fetched()
    except NoSourceError as error:
        if os.environ.get("CI", "") in {"", "0", "false"}:
            pytest.skip(f"{NOT_RUN} {error}")
        raise


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("dialect", "share"),
    [("sqlite", SHARE), ("sqlite+aiosqlite", ASYNC_SHARE), ("postgresql", SERVER_SHARE)],
)
def test_nothing_regresses(source: Path, dialect: str, share: tuple[str, ...]) -> None:
    """These tests pass with SQLAlchemy's session, and with ours over a map of one database."""
    paths = [str(path.relative_to(source)) for one in share for path in source.glob(one)]
    assert len(paths) == len(share)
    with database(dialect) as url:
        ours = run(Kind.ROUTED, Place(source, url, 1), paths)
    failed = [test for test, outcome in ours.outcomes.items() if outcome is Outcome.FAILED]
    assert {test: ours.reasons[test] for test in failed if not excuse(Kind.ROUTED, test)} == {}
    assert ours.broken is None
    passed = [test for test, outcome in ours.outcomes.items() if outcome is Outcome.PASSED]
    assert len(passed) > ENOUGH
