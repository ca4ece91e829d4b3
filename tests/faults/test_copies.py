"""Databases that are copies of others, and were given their identities with all else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from router import CrossShardError, Router
from router.session import ending
from router.transaction.cleaning import clean
from router.transaction.names import new_gtid
from router.transaction.probes import probing
from router.transaction.recovery import Action, Outcome
from tests.faults.ledger import assert_whole, open_ledger, prepare, transact
from tests.faults.scenes import breaks_commits, identities
from tests.support.databases import MakeDatabases, query

FORGET = "DELETE FROM router_commit_log WHERE gtid = 'identity'"


@pytest.fixture
def copied(make_databases: MakeDatabases) -> Iterator[Router]:
    """A ledger whose second database is a copy of the first one."""
    with open_ledger(make_databases("postgresql", 2)) as router:
        prepare(router)
        original, _ = identities(router)
        change = f"UPDATE router_commit_log SET participants = '{original}'"
        query(router.engines["b1"].url, change)
        yield router


def test_no_commit_with_a_copy(copied: Router) -> None:
    """Nobody could tell later who has decided; with an identity of its own, all is well."""
    with pytest.raises(CrossShardError) as caught:
        transact(copied, 1)
    assert caught.value.id == "R401"
    assert_empty(copied)
    query(copied.engines["b1"].url, FORGET)
    copied.create_all()
    with open_ledger([url_of(copied, name) for name in copied.engines]) as router:
        transact(router, 2)
        assert_whole(router, committed={2})


def test_a_copy_is_not_asked(copied: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed by those who did not know is not rolled back by recovery."""
    monkeypatch.setattr(ending, "_refuse_copies", lambda parties: None)
    with probing(breaks_commits):
        transact(copied, 1)
    found = copied.recover(grace=0)
    assert {one.action for one in found} == {Action.UNREACHABLE}
    assert "copy" in found[0].detail
    listed = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"
    assert query(copied.engines["b1"].url, listed) == [(1,)]
    assert copied.outcome(new_gtid()) is Outcome.IN_DOUBT


def url_of(router: Router, name: str) -> str:
    """Return the URL of a database, password included."""
    return router.engines[name].url.render_as_string(hide_password=False)


def assert_empty(router: Router) -> None:
    """Fail if anything was written."""
    for at, name in enumerate(router.engines):
        assert query(router.engines[name].url, f"SELECT count(*) FROM entries{at}") == [(0,)]


def test_a_copy_settles_nothing(copied: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a copy does not list may be prepared in the other one: its decision stays."""
    monkeypatch.setattr(ending, "_refuse_copies", lambda parties: None)
    with probing(breaks_commits):
        transact(copied, 1)
    for engines in (dict(copied.engines), dict(reversed(list(copied.engines.items())))):
        assert clean(engines, keep=0) == 0
