"""The servers for tests and the demo: how they start, and that they are gone at the end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from router.testing.servers import (
    Durability,
    MariaDBServer,
    PostgresServer,
    Server,
    ServerError,
    cache_directory,
    mariadb,
    places,
    postgres,
    running,
)
from tests.support.broker import KINDS, Servers
from tests.support.databases import query
from tests.support.processes import alive, eventually, program

# Nothing here depends on the version of SQLAlchemy.
pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys
from router.testing.servers import MariaDBServer, PostgresServer
server = {kind}().start()
print(server.pid, server.run, server._guard.pid, flush=True)
{end}
"""
WAIT = "sys.stdin.read()"
# The child holds all of the program's pipes open, and ends when the test lets go.
FORK_AND_WAIT = "os.fork(); sys.stdin.read()"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, servers: Servers) -> type[Server]:
    """Each kind of server whose programs are installed."""
    servers.urls(request.param)
    if os.environ.get("ROUTER_TEST_MYSQL_URLS") and request.param == "mariadb":
        pytest.skip("the MySQL servers of this run are not started by the tests")
    return KINDS[request.param]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory that servers can enter, unlike `tmp_path` when root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="router-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name, "kept")


# -- a life -----------------------------------------------------------------------------


def test_a_server_answers_while_it_runs_and_leaves_nothing(kind: type[Server]) -> None:
    """In the block the server answers; after it, process, directory and port are free."""
    with kind() as server:
        assert query(server.url(), "SELECT 1") == [(1,)]
        pid, run = server.pid, server.run
        assert alive(pid)
    assert not alive(pid)
    assert not run.exists()
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((places.HOST, server.port))


def test_starting_and_stopping_twice_is_harmless(kind: type[Server]) -> None:
    """A second `start` keeps the process, a second `stop` does nothing."""
    server = kind()
    try:
        pid = server.start().pid
        assert server.start().pid == pid
    finally:
        server.stop()
        server.stop()
    with pytest.raises(ServerError, match=r"R602 .* is not running"):
        _ = server.pid


def test_an_exception_in_the_block_stops_the_server(kind: type[Server]) -> None:
    """The server is gone when an exception leaves the block."""
    pids: list[int] = []

    def work() -> None:
        with kind() as server:
            pids.append(server.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert pids
    assert not alive(pids[0])


def test_several_start_side_by_side_and_one_that_fails_stops_all() -> None:
    """When one of several servers does not start, none is left."""
    good, bad = PostgresServer(), PostgresServer("/proc/no/such/place")
    with pytest.raises(ServerError, match=r"R602 .*cannot be used"), running(good, bad):
        pass
    with pytest.raises(ServerError):
        _ = good.run


@pytest.mark.parametrize(
    ("end", "signum"),
    [
        pytest.param(WAIT, signal.SIGTERM, id="SIGTERM"),
        pytest.param(WAIT, signal.SIGINT, id="SIGINT"),
        pytest.param(WAIT, signal.SIGKILL, id="SIGKILL"),
        pytest.param(FORK_AND_WAIT, signal.SIGKILL, id="SIGKILL, with a forked child"),
        pytest.param("raise SystemExit(3)", None, id="exit"),
        pytest.param("raise ValueError", None, id="exception"),
        pytest.param("os._exit(4)", None, id="os._exit"),
    ],
)
def test_the_server_ends_with_its_program(
    kind: type[Server], end: str, signum: signal.Signals | None
) -> None:
    """However the program ends, no process and no directory stays behind."""
    with program(PROGRAM.format(kind=kind.__name__, end=end)) as process:
        assert process.stdout is not None
        pid, run, guard = process.stdout.readline().split()
        if signum is not None:
            assert alive(int(pid))
            process.send_signal(signum)
        assert eventually(lambda: not alive(int(guard)))
        process.kill()
        # The forked child holds the other ends of the pipes.
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    assert not alive(int(pid))
    assert not Path(run).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_the_server_ends_with_its_guard(kind: type[Server]) -> None:
    """Even when the guard itself is killed, the server ends, and `stop` clears up."""
    with kind() as server:
        pid, run = server.pid, server.run
        assert server._guard is not None
        os.kill(server._guard.pid, signal.SIGKILL)
        assert eventually(lambda: not alive(pid))
    assert not run.exists()


# -- who gets in ------------------------------------------------------------------------


def test_a_wrong_password_is_refused(kind: type[Server]) -> None:
    """Servers on loopback are no open doors either."""
    with kind() as server, pytest.raises(kind.not_ready):
        connection_of(server.url().set(password="wrong"))


def connection_of(url: URL) -> None:
    """Connect with the plain driver."""
    engine = create_engine(url, poolclass=NullPool)
    engine.raw_connection().close()


def test_no_process_shows_the_password(kind: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is on no command line, and in no error."""
    monkeypatch.setenv("ROUTER_DB_PASSWORD", "s3cret'\"\\")
    with kind() as server:
        assert query(server.url(), "SELECT 1") == [(1,)]
        assert server._guard is not None
        for pid in (server.pid, server._guard.pid):
            assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert "s3cret" not in str(server._failed("for a test", server._log()))


# -- data that is kept ------------------------------------------------------------------


@pytest.mark.parametrize("durability", Durability)
def test_kept_data_is_there_at_the_next_start(
    kind: type[Server], directory: Path, durability: Durability
) -> None:
    """A second server on the same directory has the first one's rows."""
    with kind(directory, durability=durability) as server:
        query(server.url(), "CREATE TABLE t (x int)")
        query(server.url(), "INSERT INTO t VALUES (7)")
    with kind(directory, durability=durability) as server:
        assert query(server.url(), "SELECT x FROM t") == [(7,)]


def test_kept_data_survives_kill_9(kind: type[Server], directory: Path) -> None:
    """Stale pid and lock files of a killed server do not matter to the next start."""
    with kind(directory, durability=Durability.FULL) as server:
        query(server.url(), "CREATE TABLE t (x int)")
        pid = server.pid
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not alive(pid))
    with kind(directory, durability=Durability.FULL) as server:
        assert query(server.url(), "SELECT x FROM t") == []


def test_two_runs_do_not_share_a_directory(
    kind: type[Server], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run is refused while the first one lasts, and says where."""
    monkeypatch.setattr(places, "LOCK_SECONDS", 0)
    with kind(directory) as first:
        with pytest.raises(ServerError, match="R603 another run") as refused:
            kind(directory).start()
        assert refused.value.where == str(directory)
        assert query(first.url(), "SELECT 1") == [(1,)]


def test_an_initialisation_that_was_cut_off_is_repeated(
    kind: type[Server], directory: Path
) -> None:
    """Half a data directory is thrown away."""
    leftover = directory / "data.new" / "half"
    leftover.mkdir(parents=True)
    with kind(directory) as server:
        assert query(server.url(), "SELECT 1") == [(1,)]
    assert not leftover.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
def test_a_directory_closed_to_the_user_of_the_server_is_refused(tmp_path: Path) -> None:
    """Root is told where the data can lie instead."""
    tmp_path.chmod(0o700)
    with pytest.raises(ServerError, match=r"R602 .*may not enter"):
        PostgresServer(tmp_path / "kept").start()


def test_the_cache_directory_of_root_can_be_entered() -> None:
    """Everybody may pass through the directories above the cache directory's root."""
    directory = cache_directory("name")
    assert directory.name == "name"
    assert os.geteuid() or directory.parents[1].stat().st_mode & 0o001


# -- what can go wrong ------------------------------------------------------------------


def test_missing_programs_have_their_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """R601 names the product, and the remedy names the packages."""
    monkeypatch.setattr(postgres, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres, "SYSTEM_INSTALLATIONS", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerError, match=r"R601 no PostgreSQL[\s\S]*demo"):
        PostgresServer().start()
    monkeypatch.setattr(mariadb, "EXTRA_PATH", ())
    with pytest.raises(ServerError, match=r"R601 no MariaDB[\s\S]*mariadb-server"):
        MariaDBServer().start()


def test_a_server_that_ends_while_starting_shows_its_log(kind: type[Server]) -> None:
    """R602 carries the server's own words, and nothing is left."""

    class Misled(kind):  # type: ignore[valid-type, misc]
        def _command(self, data: Path) -> list[str]:
            return [*super()._command(data), "--no-such-option=1"]

    server = Misled()
    with pytest.raises(ServerError, match=r"R602[\s\S]*no.such.option"):
        server.start()
    assert server._run is None


def test_an_initialisation_that_fails_shows_its_output(kind: type[Server]) -> None:
    """R602 carries the output of the program that failed."""

    class Misled(kind):  # type: ignore[valid-type, misc]
        def _initialise(self, data: Path) -> None:
            self._tool(["/bin/sh", "-c", "echo something is wrong; exit 5"])

    with pytest.raises(ServerError, match=r"R602 .* sh ended with 5\nsomething is wrong"):
        Misled().start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
def test_programs_in_a_closed_directory_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment in root's home serves as well."""
    monkeypatch.setattr(places.Account, "can_run", lambda self, program: False)
    with PostgresServer() as server:
        assert query(server.url(), "SELECT 1") == [(1,)]
        assert server._bin.is_relative_to(server.run)
