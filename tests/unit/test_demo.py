"""The demo: the whole data set, twice, and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.demo import data
from tests.support.processes import eventually

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.postgresql]

DEMO = [sys.executable, "-c", "from router.cli import main; main()", "demo"]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """An environment in which the demo keeps its data in a directory of the test's own."""
    with tempfile.TemporaryDirectory(prefix="demo-") as cache:
        # The servers run as another user when root starts them.
        Path(cache).chmod(0o755)
        yield {**os.environ, "PYTHONPATH": str(ROOT), "ROUTER_CACHE_HOME": cache}


def servers_of(environment: dict[str, str]) -> list[str]:
    """Return the command lines of the servers that run on the test's directory."""
    listed = subprocess.run(
        ["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if environment["ROUTER_CACHE_HOME"] in line]


def test_an_interrupted_run_leaves_no_process(environment: dict[str, str]) -> None:
    """Ctrl-C while the data is loaded ends the servers; nothing counts as loaded."""
    with subprocess.Popen(DEMO, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert eventually(lambda: bool(servers_of(environment)))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode != 0
    assert eventually(lambda: not servers_of(environment))


def test_two_runs(environment: dict[str, str]) -> None:
    """The first loads every row, the second finds them; both end well."""
    for _ in range(2):
        done = subprocess.run(
            DEMO, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"{data.FLIGHTS:,} flights in all" in done.stdout
        assert "2,512" in done.stdout
        assert "committed:    3 of 3 rows are there" in done.stdout
        assert "deleted:      0 of 3 rows are there" in done.stdout
    assert servers_of(environment) == []


def test_the_data_is_complete() -> None:
    """The packaged files have the rows that the demo speaks of."""
    tails = [row[1] for row in data.flights()]
    assert len(tails) == data.FLIGHTS
    assert tails.count(None) == 2512
    assert len(list(data.planes())) == 3322
