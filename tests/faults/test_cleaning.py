"""What must not be deleted from decision logs, beside transactions that are in flight."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from router.transaction.cleaning import clean
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Deed
from router.transaction.recovery import Action
from tests.faults.ledger import assert_whole, open_ledger, prepare, transact, verdicts
from tests.faults.scenes import At, breaks_commits
from tests.support.databases import MakeDatabases, query
from tests.support.processes import eventually

DELETING = (
    "SELECT count(*) FROM information_schema.processlist "
    "WHERE db = database() AND info LIKE 'DELETE FROM router_commit_log%'"
)


@pytest.mark.parametrize("level", ["READ UNCOMMITTED", "REPEATABLE READ"])
def test_a_decision_in_flight_is_not_an_old_one(make_databases: MakeDatabases, level: str) -> None:
    """Also where an engine reads what is not committed."""
    urls = [*make_databases("mariadb", 1), *make_databases("postgresql", 1)]
    engine = {"isolation_level": level}
    databases = {"b0": {"url": urls[0], "engine": engine}, "b1": {"url": urls[1]}}
    with open_ledger(urls, databases=databases) as router, ThreadPoolExecutor(1) as threads:
        prepare(router)
        cleaned: list[Future[int]] = []

        def begin_to_clean() -> None:
            cleaned.append(threads.submit(clean, router.engines, keep=0))
            # It has read the rows, and waits for one if it wants to delete it.
            assert eventually(lambda: cleaned[0].done() or query(urls[0], DELETING) != [(0,)])

        probe = At(Moment.AFTER, Deed.RECORD, begin_to_clean)
        with probing(probe), probing(breaks_commits):
            transact(router, 1)
        assert cleaned[0].result() == 0
        assert {one.action for one in router.recover(grace=0)} == {Action.COMMITTED}
        assert_whole(router, committed={1})


def test_what_may_still_be_asked_for_is_kept(make_databases: MakeDatabases) -> None:
    """However little is to be kept: a coordinator that was not answered asks for a while."""
    with open_ledger(make_databases("postgresql", 2)) as router:
        prepare(router)
        transact(router, 1)
        router.recover(grace=0, keep=0)
        assert verdicts(router) == ["C"]
        clean(router.engines, keep=0)
        assert verdicts(router) == []
