"""Servers of a test's own, which are killed and started again with what they had."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.testing.servers import Durability, MariaDBServer, Server, running
from tests.support.broker import KINDS, Servers
from tests.support.processes import alive, eventually


@contextmanager
def durable(*kinds: type[Server]) -> Iterator[list[Server]]:
    """Run one server of each kind that keeps what it has committed."""
    with tempfile.TemporaryDirectory(prefix="router-test-") as name:
        # Servers run as users who could not enter it otherwise.
        Path(name).chmod(0o755)
        made = [
            kind(Path(name, str(at)), durability=Durability.FULL) for at, kind in enumerate(kinds)
        ]
        with running(*made):
            yield made


def installed(servers: Servers, kind: str) -> type[Server]:
    """Return a kind of server that can be started here, or skip the test."""
    servers.urls(kind)
    if kind == "mariadb" and os.environ.get("ROUTER_TEST_MYSQL_URLS"):
        pytest.skip("the MySQL servers of this run are not started by the tests")
    return KINDS[kind]


def kill(server: Server) -> None:
    """Let a server end as if its machine had, and everything that it has started."""
    pids = [server.pid, *_children(server.pid)]
    for pid in pids:
        if alive(pid):
            _end(pid)
    assert eventually(lambda: not any(map(alive, pids)))


def restart(server: Server) -> None:
    """Start a killed server again, where it was."""
    server.stop()
    server.start()


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(one) for one in found.stdout.split()]


class LazyMariaDB(MariaDBServer):
    """A MariaDB server that writes its log when told to, as any does for a moment."""

    def _command(self, data: Path) -> list[str]:
        lazy = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-log-at-timeout=2700")
        return [*super()._command(data), *lazy]

    def _first_statements(self) -> Path:
        file = super()._first_statements()
        with file.open("a", encoding="utf-8") as more:
            more.write("GRANT SUPER ON *.* TO 'app'@'%';\n")
        return file
