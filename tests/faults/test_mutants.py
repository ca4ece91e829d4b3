"""Each rule of the protocol is broken once, to show that the oracles notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, insert
from sqlalchemy.exc import IntegrityError

from router import CrossShardError, Router
from router.hooks.sending import Steps, at_once
from router.session import ending
from router.transaction import cleaning, coordinator, log, participants, recovery, settling
from router.transaction.cleaning import clean
from router.transaction.names import Branch, new_gtid
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Deed, Verdict
from router.transaction.recovery import Survey
from tests.faults.ledger import ENTRIES, open_ledger, prepare, recovers, transact, writes
from tests.faults.scenes import (
    At,
    ask_briefly,
    breaks_commits,
    identities,
    is_whole,
    prepared_by_hand,
)
from tests.support.databases import MakeDatabases

MUTATED = pytest.mark.parametrize("mutated", [False, True], ids=["as it is", "mutated"])


@contextmanager
def ledger(make_databases: MakeDatabases, *kinds: str) -> Iterator[Router]:
    """Open a ledger over fresh databases."""
    urls = [url for kind in kinds for url in make_databases(kind, 1)]
    with open_ledger(urls) as router:
        prepare(router)
        yield router


def recover_and_clean(router: Router) -> None:
    """Do what another process may do at any time."""
    router.recover(grace=0)
    clean(router.engines, keep=0)


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have acts that may overlap done one after another, the last one first."""

    def call_all(calls: Sequence[Callable[[], None]]) -> None:
        for call in reversed(calls):
            call()

    def take_all(several: Sequence[Steps]) -> None:
        call_all([partial(at_once, steps) for steps in several])

    monkeypatch.setattr(ending, "finish_all", call_all)
    monkeypatch.setattr(coordinator, "side_by_side", take_all)


@MUTATED
def test_no_fence(
    make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch, mutated: bool
) -> None:
    """That there is no verdict yet does not mean that there will be none."""

    def look_only(engine: Engine, gtid: str) -> Verdict:
        with engine.connect() as connection:
            return log.read_verdict(connection, gtid) or Verdict.ABORT

    ask_briefly(monkeypatch)
    if mutated:
        monkeypatch.setattr(recovery, "fence", look_only)
    with ledger(make_databases, "postgresql", "postgresql") as router:
        probe = At(Moment.BEFORE, Deed.DECIDE, lambda: router.recover(grace=0))
        with probing(probe):
            transact(router, 1)
        assert probe.done
        assert is_whole(router) is not mutated


@MUTATED
@pytest.mark.usefixtures("backwards")
def test_abort_forgotten_too_early(
    make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch, mutated: bool
) -> None:
    """A decider that has not recorded its decision yet must find that it is too late."""
    if mutated:
        monkeypatch.setattr(cleaning, "_NOBODY_LATE", {})
    with ledger(make_databases, "postgresql", "postgresql") as router:
        probe = At(Moment.BEFORE, Deed.RECORD, lambda: recover_and_clean(router))
        late: AbstractContextManager[object] = (
            nullcontext() if mutated else pytest.raises(IntegrityError)
        )
        with probing(probe), late:
            transact(router, 1)
        assert probe.done
        assert is_whole(router) is not mutated


@MUTATED
def test_commit_forgotten_too_early(
    make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch, mutated: bool
) -> None:
    """A decision is needed until every branch has been settled."""
    if mutated:
        monkeypatch.setattr(cleaning, "_has_served", lambda row, survey: True)
    with ledger(make_databases, "postgresql", "postgresql") as router:
        with probing(breaks_commits):
            transact(router, 1)
        assert router.in_doubt().branches
        clean(router.engines, keep=0)
        assert recovers(router)
        assert is_whole(router) is not mutated


@MUTATED
def test_failed_transactions(
    make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch, mutated: bool
) -> None:
    """PostgreSQL prepares nothing after an error, and says that all is well."""
    if mutated:
        monkeypatch.setattr(participants, "refuse_failed", lambda database, connection: None)
    with ledger(make_databases, "postgresql", "postgresql") as router:
        transact(router, 1)
        with router.sessionmaker()() as session:
            for statement in writes(router, 2):
                session.execute(statement)
            with pytest.raises(IntegrityError):
                session.execute(insert(ENTRIES[1]).values(id=1))
            with nullcontext() if mutated else pytest.raises(CrossShardError):
                session.commit()
        assert is_whole(router) is not mutated


@MUTATED
def test_unknown_means_done(
    make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch, mutated: bool
) -> None:
    """MariaDB does not know a branch as long as somebody else has it."""
    if mutated:
        monkeypatch.setattr(settling, "prepared", lambda connection: [])
    with ledger(make_databases, "mariadb", "mariadb") as router:
        branch = Branch(new_gtid(), *identities(router))
        url = router.engines["b1"].url.render_as_string(hide_password=False)
        with prepared_by_hand(url, branch, "INSERT INTO entries1 VALUES (1)"):
            assert recovers(router)
            assert bool(router.in_doubt().branches) is mutated
        monkeypatch.undo()
        assert recovers(router)


@MUTATED
@pytest.mark.usefixtures("backwards")
def test_prepared_before_it_is_recorded(
    make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch, mutated: bool
) -> None:
    """Who asks while a branch is prepared must wait for the decider of MariaDB."""
    if mutated:
        monkeypatch.setattr(participants.MySQL, "records_first", False)
    with ledger(make_databases, "mariadb", "postgresql") as router:
        probe = At(Moment.BEFORE, Deed.RECORD, lambda: recover_and_clean(router))
        with probing(probe):
            transact(router, 1)
        assert probe.done
        assert is_whole(router) is not mutated


@MUTATED
def test_branches_listed_too_early(
    make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch, mutated: bool
) -> None:
    """What is not listed before decisions are read may be prepared in between."""
    old_rows, made = cleaning._old_rows, []

    def transact_first(engine: Engine, keep: float) -> Any:
        if not made:
            made.append(True)
            with probing(breaks_commits):
                transact(router, 1)
        return old_rows(engine, keep)

    with ledger(make_databases, "postgresql", "postgresql") as router:
        before = cleaning.look(router.engines)
        monkeypatch.setattr(cleaning, "_old_rows", transact_first)
        if mutated:
            monkeypatch.setattr(cleaning, "look", listed(before))
        clean(router.engines, keep=0)
        assert made
        assert recovers(router)
        assert is_whole(router) is not mutated


def listed(survey: Survey) -> Callable[[Mapping[str, Engine]], Survey]:
    """Return a function that lists what was there before."""
    return lambda engines: survey
