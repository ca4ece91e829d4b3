"""Recovery beside others: live coordinators, other recoverers, other maps, foreign branches."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from sqlalchemy import make_url, text

from router.testing.servers import PostgresServer
from router.transaction.names import Branch, new_gtid
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Deed
from router.transaction.recovery import Action, Outcome
from tests.faults.coordinators import Step, recovering, started
from tests.faults.ledger import (
    WORLDS,
    Colour,
    Ledger,
    Ledgers,
    assert_whole,
    open_ledger,
    prepare,
    recovers,
    transact,
)
from tests.faults.scenes import (
    At,
    ask_briefly,
    breaks_commits,
    identities,
    prepare_by_hand,
    prepared_by_hand,
)
from tests.faults.servers import durable, installed, kill, restart
from tests.support.broker import Servers
from tests.support.databases import fresh_databases, query
from tests.support.processes import eventually
from tests.unit.test_cli import command

DECIDERS = pytest.mark.parametrize("decider", list(WORLDS))
INSERT = "INSERT INTO entries{} VALUES ({})"


@pytest.fixture(scope="module")
def ledgers(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledgers]:
    """A ledger for each kind of decider, made when first asked for."""
    with ExitStack() as stack:
        make = stack.enter_context(fresh_databases(servers, tmp_path_factory.mktemp("ledgers")))
        yield Ledgers(make, stack)


def leave_undone(ledger: Ledger) -> None:
    """Commit a transaction whose branches nobody looks after."""
    with probing(breaks_commits):
        transact(ledger.router, ledger.begin())
    assert len(ledger.router.in_doubt().branches) == 2
    ledger.committed.add(ledger.number)


def assert_done(ledger: Ledger) -> None:
    """Fail unless everything is settled, and can be forgotten."""
    assert_whole(ledger.router, committed=ledger.committed)
    assert eventually(ledger.forgets)


# -- beside live coordinators -------------------------------------------------------------------


@DECIDERS
def test_a_slow_coordinator_is_waited_for(
    ledgers: Ledgers, decider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds its decision open has time to commit, also longer than the grace."""
    ask_briefly(monkeypatch)
    ledger = ledgers.of(decider)
    found: list[Action] = []

    def recover() -> None:
        found.extend(one.action for one in ledger.router.recover(grace=0))

    with probing(At(Moment.BEFORE, Deed.DECIDE, recover)):
        transact(ledger.router, ledger.begin())
    ledger.committed.add(ledger.number)
    assert found == [Action.UNDECIDED] * 2
    assert_done(ledger)


@DECIDERS
def test_branches_are_left_alone_within_the_grace(ledgers: Ledgers, decider: str) -> None:
    """What is gone after the grace was never asked about."""
    ledger = ledgers.of(decider)
    with ThreadPoolExecutor(1) as threads, ExitStack() as stack:
        recovery: list[Any] = []

        def begin() -> None:
            recovery.append(threads.submit(ledger.router.recover, grace=2))

        stack.enter_context(probing(At(Moment.BEFORE, Deed.DECIDE, begin)))
        transact(ledger.router, ledger.begin())
        assert recovery[0].result() == []
    ledger.committed.add(ledger.number)
    assert_done(ledger)


# -- several recoverers -------------------------------------------------------------------------


@DECIDERS
@pytest.mark.parametrize("decided", [True, False], ids=["decided", "undecided"])
def test_recoverers_side_by_side(ledgers: Ledgers, decider: str, decided: bool) -> None:
    """Threads and processes at once: every branch is settled, the same way."""
    ledger = ledgers.of(decider)
    if decided:
        leave_undone(ledger)
    else:
        leave_undecided(ledger)
    with ExitStack() as stack, ThreadPoolExecutor(4) as threads:
        processes = [stack.enter_context(recovering(ledger.urls)) for _ in range(2)]
        done = [threads.submit(ledger.router.recover, grace=0) for _ in range(4)]
        for one in done:
            one.result()
        for process in processes:
            process.join()
            assert process.exitcode == 0
    assert eventually(lambda: recovers(ledger.router))
    assert_done(ledger)


def leave_undecided(ledger: Ledger) -> None:
    """Prepare branches by hand for a transaction that is never decided."""
    names = identities(ledger.router)
    gtid, number = new_gtid(), ledger.begin()
    for at in (1, 2):
        prepare_by_hand(
            ledger.urls[at], Branch(gtid, names[0], names[at]), INSERT.format(at, number)
        )
    assert len(ledger.router.in_doubt().branches) == 2


# -- what cannot be decided now -----------------------------------------------------------------


def test_a_decider_that_cannot_be_reached(servers: Servers, tmp_path: Path) -> None:
    """Nothing is guessed; when it is back, its decision is followed."""
    kind = installed(servers, "postgresql")
    with durable(kind) as (server,), fresh_databases(servers, tmp_path) as make:
        own = server.url().render_as_string(hide_password=False)
        ledger = Ledger([own, *make("postgresql", 2)])
        leave_undone(ledger)
        kill(server)
        found = {one.database: one.action for one in ledger.router.recover(grace=0)}
        elsewhere = Action.UNDECIDED_ELSEWHERE
        assert found == {"b0": Action.UNREACHABLE, "b1": elsewhere, "b2": elsewhere}
        assert len(ledger.router.in_doubt().branches) == 2
        assert ledger.router.outcome(new_gtid()) is Outcome.IN_DOUBT
        restart(server)
        assert eventually(lambda: recovers(ledger.router))
        assert_done(ledger)
        ledger.router.dispose()


def test_a_log_that_cannot_be_read_tells_nothing(ledgers: Ledgers) -> None:
    """A decider that does not answer in time may have committed."""
    ledger = ledgers.of("postgresql")
    limited = [
        make_url(url).update_query_dict({"options": "-c lock_timeout=200ms"}) for url in ledger.urls
    ]
    with open_ledger([one.render_as_string(hide_password=False) for one in limited]) as router:
        gtid = new_gtid()
        with ledger.router.engines["b0"].connect() as connection:
            connection.execute(text("LOCK TABLE router_commit_log IN ACCESS EXCLUSIVE MODE"))
            assert router.outcome(gtid) is Outcome.IN_DOUBT
            assert [one.database for one in router.in_doubt().unreachable] == ["b0"]
        assert router.outcome(gtid) is Outcome.ABORTED
    assert eventually(ledger.forgets)


def test_a_preparer_that_is_still_connected(ledgers: Ledgers) -> None:
    """MariaDB gives its branch to others only when it is disconnected."""
    ledger = ledgers.of("mariadb")
    names = identities(ledger.router)
    branch = Branch(new_gtid(), names[0], names[1])
    with prepared_by_hand(ledger.urls[1], branch, INSERT.format(1, ledger.begin())) as thread:
        (found,) = ledger.router.recover(grace=0)
        assert found.action is Action.ROLLED_BACK
        connected = "SELECT count(*) FROM information_schema.processlist WHERE id = "
        assert eventually(lambda: query(ledger.urls[1], f"{connected}{thread}") == [(0,)])
    assert_done(ledger)


# -- what is not ours ---------------------------------------------------------------------------


def test_another_map_with_the_same_names(
    ledgers: Ledgers, servers: Servers, tmp_path: Path
) -> None:
    """A decider of another map is not asked, however its database is called there."""
    ledger = ledgers.of("postgresql")
    with fresh_databases(servers, tmp_path) as make:
        # It has the same participants, and another database that is called b0.
        other = Ledger([*make("postgresql", 1)])
        with open_ledger([*other.urls, *ledger.urls[1:]]) as router:
            leave_undone(ledger)
            assert {one.action for one in router.recover(grace=0)} == {Action.UNDECIDED_ELSEWHERE}
        assert len(ledger.router.in_doubt().branches) == 2
        other.router.dispose()
    ledger.router.recover(grace=0)
    assert_done(ledger)


def test_a_server_of_two_maps(servers: Servers, tmp_path: Path) -> None:
    """A server of MariaDB lists the branches of all its databases; each map settles its own."""
    with fresh_databases(servers, tmp_path) as make, ExitStack() as stack:
        first, second = (Ledger([*make("mariadb", 2), *make("postgresql", 1)]) for _ in range(2))
        for one in (first, second):
            stack.callback(one.router.dispose)
            leave_undone(one)
        names = set(identities(second.router))
        assert len(first.router.recover(grace=0)) == 2
        assert_whole(first.router, committed=first.committed)
        left = second.router.in_doubt().branches
        assert {one.branch.decider for one in left} <= names
        assert len(left) == 2
        assert len(second.router.recover(grace=0)) == 2
        for one in (first, second):
            assert_done(one)


FOREIGN = {
    "postgresql": ["'theirs'", "'rt1.x.y.z'", f"'rt1.{'0' * 32}.d0.d1'"],
    "mariadb": ["'theirs','b',7", f"'rt1.{'0' * 32}','d0.d1.7',1", "X'00FF80',X'FE',1"],
}


@pytest.mark.parametrize("kind", list(FOREIGN))
def test_names_that_are_not_ours(ledgers: Ledgers, kind: str) -> None:
    """Whatever others have prepared stays as it is, and is not even shown."""
    ledger = ledgers.of(kind)
    tail = secrets.token_hex(4)
    for at, name in enumerate(FOREIGN[kind]):
        name = name.replace("theirs", f"theirs{tail}")
        prepare_by_hand(ledger.urls[1], name, INSERT.format(1, 1_000_000 + at))
        try:
            assert ledger.router.recover(grace=0) == []
            assert ledger.router.in_doubt().branches == ()
        finally:
            # Fails if it has gone.
            verb = "XA ROLLBACK" if kind == "mariadb" else "ROLLBACK PREPARED"
            with ledger.router.engines["b1"].connect() as plain:
                plain.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
                    f"{verb} {name}"
                )
    assert_done(ledger)


class TwoRoles(PostgresServer):
    """A server on which somebody else writes to our tables, too."""

    other = "other"

    def _greet(self) -> None:
        super()._greet()
        login = {"host": str(self.run), "port": self.port, "user": "postgres"}
        password = self.url().password
        with psycopg.connect(**login, dbname="postgres", autocommit=True) as connection:
            made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(made.format(sql.Identifier(self.other), sql.Literal(password)))

    def urls(self) -> list[str]:
        """Return the URLs for both roles."""
        ours = self.url()
        theirs = ours.set(username=self.other)
        return [url.render_as_string(hide_password=False) for url in (ours, theirs)]


def test_a_branch_of_another_role(tmp_path: Path) -> None:
    """PostgreSQL leaves it to its owner; that is said, and stops nobody else's recovery."""
    decider = f"sqlite:///{tmp_path}/decider.db"
    with TwoRoles() as server:
        ours, theirs = server.urls()
        with open_ledger([decider, ours]) as router, open_ledger([decider, theirs]) as owner:
            prepare(router)
            query(ours, "GRANT ALL ON ALL TABLES IN SCHEMA public TO other")
            names = identities(router)
            gtids = [new_gtid(), new_gtid()]
            for number, (url, gtid) in enumerate(zip((ours, theirs), gtids, strict=True)):
                prepare_by_hand(url, Branch(gtid, *names), INSERT.format(1, number))
            found = {one.gtid: one for one in router.recover(grace=0)}
            assert [found[one].action for one in gtids] == [Action.ROLLED_BACK, Action.FAILED]
            assert "permission denied" in found[gtids[1]].detail
            assert [one.action for one in owner.recover(grace=0)] == [Action.ROLLED_BACK]
            assert_whole(router, committed=set())


# -- the command, and in the background ---------------------------------------------------------


def configured(ledger: Ledger, place: Path) -> Path:
    """Write the map of a ledger where the command finds it."""
    data = {
        "version": 1,
        "databases": {f"b{at}": {"url": url} for at, url in enumerate(ledger.urls)},
        "keyspaces": {f"k{at}": {"database": f"b{at}"} for at in range(len(ledger.urls))},
    }
    (place / "shards.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return place


def recover_by_command(place: Path, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code of `router recover`, and the rows that it prints."""
    done = command("recover", "--json", "--config", "shards.yaml", *words, cwd=place)
    return done.returncode, json.loads(done.stdout)


def test_the_command(ledgers: Ledgers, tmp_path: Path) -> None:
    """It lists without touching anything, settles, and says by its exit code what is open."""
    ledger = ledgers.of("mariadb")
    place = configured(ledger, tmp_path)
    leave_undone(ledger)
    for only in ("--list", "--dry-run"):
        code, rows = recover_by_command(place, only)
        assert code == 1
        assert [(one["database"], one["state"], one["open"]) for one in rows] == [
            ("b1", "in doubt", True),
            ("b2", "in doubt", True),
        ]
    assert len(ledger.router.in_doubt().branches) == 2
    code, rows = recover_by_command(place)
    assert (code, [one["state"] for one in rows]) == (0, ["committed"] * 2)
    assert recover_by_command(place, "--list") == (0, [])
    assert_done(ledger)


def test_the_command_of_what_nobody_can_decide(ledgers: Ledgers, tmp_path: Path) -> None:
    """A branch whose decider is not in the map is shown as open."""
    ledger = ledgers.of("postgresql")
    place = configured(ledger, tmp_path)
    branch = Branch(new_gtid(), secrets.token_hex(6), identities(ledger.router)[1])
    prepare_by_hand(ledger.urls[1], branch, INSERT.format(1, 2_000_000))
    try:
        code, (row,) = recover_by_command(place)
        assert (code, row["gtid"], row["open"]) == (1, branch.gtid, True)
    finally:
        with ledger.router.engines["b1"].connect() as plain:
            plain.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
                f"ROLLBACK PREPARED '{branch.gid}'"
            )
    assert_done(ledger)


@DECIDERS
@pytest.mark.parametrize(
    "step", [Step(Moment.BEFORE, Deed.DECIDE), Step(Moment.BEFORE, Deed.COMMIT)]
)
def test_in_the_background(ledgers: Ledgers, decider: str, step: Step) -> None:
    """A router that is told to recovers without being asked, and ends with being disposed of."""
    ledger = ledgers.of(decider)
    with started(ledger.urls, ledger.begin(), Colour.SYNC, step, signal.SIGKILL) as process:
        process.join()
    assert ledger.router.in_doubt().branches
    if step.is_decided:
        ledger.committed.add(ledger.number)
    with open_ledger(ledger.urls, transactions={"recover_every": 0.1}) as router:
        # It begins with the first session.
        router.sessionmaker()().close()
        assert eventually(lambda: not ledger.router.in_doubt().branches)
    assert_done(ledger)
