"""Servers are killed in the middle of commits, and started again with what they had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from router import TransactionInDoubtError
from router.hooks.sending import at_once
from router.session import ending
from router.testing.servers import Server
from router.transaction import log
from router.transaction.fence import fence, patiently
from router.transaction.names import new_gtid
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act, Deed, Verdict
from router.transaction.recovery import Outcome
from tests.faults.ledger import Colour, Ledger, assert_whole, recovers, transact
from tests.faults.servers import LazyMariaDB, durable, installed, kill, restart
from tests.support.broker import KINDS, Servers
from tests.support.databases import fresh_databases, query
from tests.support.processes import eventually


@dataclass(frozen=True)
class Blow:
    """When a server is killed; `lost` if its last answer does not arrive either."""

    moment: Moment
    deed: Deed
    lost: bool = False

    def __str__(self) -> str:
        lost = ", answer lost" if self.lost else ""
        return f"{self.moment.value} {self.deed.name.lower()}{lost}"

    @property
    def is_decided(self) -> bool:
        """Whether the decision has been made when it comes."""
        after = (self.moment, self.deed) == (Moment.AFTER, Deed.DECIDE)
        return after or self.deed is Deed.COMMIT


class LostError(Exception):
    """Stands for an answer that does not arrive."""


class Killer:
    """A probe that kills a server, once; it `returns` at once, or stays away."""

    def __init__(self, blow: Blow, server: Server, returns: bool) -> None:
        self._blow = blow
        self._server = server
        self._returns = returns
        self.done = False

    def __call__(self, moment: Moment, act: Act) -> None:
        """Kill it when it is time."""
        if self.done or (moment, act.deed) != (self._blow.moment, self._blow.deed):
            return
        self.done = True
        kill(self._server)
        if self._returns:
            restart(self._server)
        if self._blow.lost:
            raise LostError


class Worlds:
    """Ledgers in which one database is on a server that may be killed."""

    def __init__(self, own: dict[str, Server], others: Servers, directory: Path) -> None:
        self.own = own
        self._made: dict[tuple[str, str], Ledger] = {}
        self._others = others
        self._directory = directory
        self.stack = ExitStack()

    def urls(self, kind: str) -> list[str]:
        """Return the URL of the server of a kind that may be killed."""
        return [self.own[kind].url().render_as_string(hide_password=False)]

    def of(self, role: str, kind: str) -> Ledger:
        """Return the ledger in which the server of a kind has a role."""
        if (role, kind) not in self._made:
            make_own = self.stack.enter_context(fresh_databases(self, self._directory))
            make = self.stack.enter_context(fresh_databases(self._others, self._directory))
            urls = [*make_own(kind, 1), *make(kind, 1)]
            if role == "participant":
                urls.reverse()
            elif kind == "mariadb":
                urls += make("postgresql", 1)
            ledger = self._made[role, kind] = Ledger(urls)
            self.stack.callback(ledger.router.dispose)
        return self._made[role, kind]


@pytest.fixture(scope="module")
def worlds(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """One server of each kind that may be killed, beside those that stay."""
    kinds = [installed(servers, kind) for kind in KINDS]
    with durable(*kinds) as started:
        own = dict(zip(KINDS, started, strict=True))
        made = Worlds(own, servers, tmp_path_factory.mktemp("worlds"))
        with made.stack:
            yield made


DECIDER_BLOWS = [
    Blow(Moment.AFTER, Deed.RECORD),
    Blow(Moment.AFTER, Deed.PREPARE),
    Blow(Moment.BEFORE, Deed.DECIDE),
    Blow(Moment.AFTER, Deed.DECIDE, lost=True),
    Blow(Moment.AFTER, Deed.DECIDE),
]
IN_DOUBT_BLOWS = DECIDER_BLOWS[2:4]
PARTICIPANT_BLOWS = [
    Blow(Moment.BEFORE, Deed.PREPARE),
    Blow(Moment.AFTER, Deed.PREPARE, lost=True),
    Blow(Moment.AFTER, Deed.PREPARE),
    Blow(Moment.BEFORE, Deed.COMMIT),
    Blow(Moment.AFTER, Deed.COMMIT, lost=True),
]
KIND = pytest.mark.parametrize("kind", list(KINDS))
COLOURS = pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.value)


def strike(ledger: Ledger, killer: Killer, colour: Colour) -> BaseException | None:
    """Make a transaction whose server is killed; return what the caller was told."""
    told: BaseException | None = None
    with probing(killer):
        try:
            transact(ledger.router, ledger.begin(), colour)
        except (DBAPIError, LostError, TransactionInDoubtError) as error:
            told = error
    assert killer.done
    return told


def assert_true(ledger: Ledger, told: BaseException | None, *, committed: bool) -> None:
    """Fail unless what the caller was told is what recovery leaves."""
    if isinstance(told, TransactionInDoubtError):
        gtid = told.gtid
        assert eventually(lambda: ledger.router.outcome(gtid) is not Outcome.IN_DOUBT)
        expected = Outcome.COMMITTED if committed else Outcome.ABORTED
        assert ledger.router.outcome(gtid) is expected
    else:
        assert (told is None) is committed
    assert eventually(lambda: recovers(ledger.router))
    if committed:
        ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)
    assert eventually(ledger.forgets)


@KIND
@COLOURS
@pytest.mark.parametrize("blow", DECIDER_BLOWS, ids=str)
def test_decider(worlds: Worlds, kind: str, colour: Colour, blow: Blow) -> None:
    """One that is back at once is asked, and what it has kept is what holds."""
    ledger = worlds.of("decider", kind)
    told = strike(ledger, Killer(blow, worlds.own[kind], returns=True), colour)
    assert not isinstance(told, TransactionInDoubtError)
    assert_true(ledger, told, committed=blow.is_decided)


@KIND
@COLOURS
@pytest.mark.parametrize("blow", IN_DOUBT_BLOWS, ids=str)
def test_decider_that_stays_away(
    worlds: Worlds, kind: str, colour: Colour, blow: Blow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell, nothing is touched; when it is back, it is told and done."""
    ledger = worlds.of("decider", kind)
    monkeypatch.setattr(ending, "patiently", partial(patiently, seconds=0))
    server = worlds.own[kind]
    told = strike(ledger, Killer(blow, server, returns=False), colour)
    assert isinstance(told, TransactionInDoubtError)
    branches = ledger.router.in_doubt().branches
    assert branches
    assert not recovers(ledger.router)
    assert ledger.router.in_doubt().branches == branches
    restart(server)
    assert_true(ledger, told, committed=blow.is_decided)


@KIND
@pytest.mark.parametrize("blow", PARTICIPANT_BLOWS, ids=str)
def test_participant(worlds: Worlds, kind: str, blow: Blow) -> None:
    """Who is away when all others commit does so when it is back."""
    ledger = worlds.of("participant", kind)
    server = worlds.own[kind]
    told = strike(ledger, Killer(blow, server, returns=False), Colour.SYNC)
    assert not isinstance(told, TransactionInDoubtError)
    restart(server)
    # The prepared branch is still there before anybody has looked after it.
    assert eventually(lambda: not ledger.router.in_doubt().unreachable)
    if (blow.moment, blow.deed) in ((Moment.AFTER, Deed.PREPARE), (Moment.BEFORE, Deed.COMMIT)):
        assert ledger.router.in_doubt().branches
    # All that it had to do before the decision was to prepare.
    stopped = blow.deed is Deed.PREPARE and (blow.moment is Moment.BEFORE or blow.lost)
    assert_true(ledger, told, committed=not stopped)


# -- a decision that can be seen, and is not on disk --------------------------------------------


@pytest.fixture(scope="module")
def lazy(servers: Servers) -> Iterator[Server]:
    """A MariaDB server whose log is written when told to."""
    installed(servers, "mariadb")
    with durable(LazyMariaDB) as (server,):
        yield server


def test_a_decision_that_was_learnt_is_never_lost(lazy: Server) -> None:
    """InnoDB shows a commit before it is on disk; who follows it must wait for that."""
    engine = create_engine(lazy.url())
    log.create(engine)
    # Puts on disk what has been done so far.
    query(lazy.url(), "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    query(lazy.url(), "CREATE TABLE other (id int)")
    query(lazy.url(), "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    gtid = new_gtid()
    with engine.begin() as decider:
        at_once(log.recording(decider, gtid, []))
    query(lazy.url(), "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert fence(engine, gtid) is Verdict.COMMIT
    kill(lazy)
    restart(lazy)
    engine.dispose()
    assert fence(engine, gtid) is Verdict.COMMIT
    engine.dispose()
