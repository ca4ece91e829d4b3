"""Runs SQLAlchemy's tests with one kind of session, and returns what came of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.drop_in.plugin import KIND, OUTCOMES, Outcome
from tests.drop_in.sessions import Kind

PROJECT = Path(__file__).parents[2]
MODULE = "tests.drop_in.plugin"
SECONDS = 3600

# pytest's own: all passed, some failed, nothing collected.
_ENDS = (0, 1, 5)


@dataclass(frozen=True, slots=True)
class Place:
    """Where tests run: SQLAlchemy's source, the URL of a database, a number of processes."""

    source: Path
    url: str
    processes: int


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of each test, why some failed, and what ended the run before its end."""

    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    broken: str | None = None


def run(kind: Kind, place: Place, tests: Sequence[str]) -> Run:
    """Run `tests`, files of SQLAlchemy's source; what ends early is told, not raised."""
    with TemporaryDirectory() as directory:
        written = Path(directory, "outcomes")
        done = _pytest(kind, place, tests, written)
        found = [json.loads(line) for line in _lines(written)]
        return Run(
            {test: Outcome(outcome) for test, outcome, _ in found},
            {test: reason for test, _, reason in found if reason},
            done,
        )


def _lines(path: Path) -> Iterator[str]:
    """Yield the whole lines of a file that may end in the middle of one."""
    if path.exists():
        yield from (line for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n")


def _pytest(kind: Kind, place: Place, tests: Sequence[str], written: Path) -> str | None:
    """Run pytest, which writes outcomes to a file; return what went wrong with pytest itself."""
    options = ["-o", "addopts=", "-p", MODULE, "-p", "no:cacheprovider", "--dburi", place.url]
    how = ["-q", "--tb=native", "-n", str(place.processes), "--maxfail=100000"]
    # -s: the installed SQLAlchemy, not the one beside the tests.
    command = [sys.executable, "-s", "-m", "pytest", *options, *how, *_KEEP_ON, *tests]
    try:
        done = subprocess.run(
            command,
            cwd=place.source,
            env={**_environment(), KIND: kind.value, OUTCOMES: str(written)},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} seconds"
    if done.returncode in _ENDS:
        return None
    return f"pytest ended with {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


_KEEP_ON = ("--continue-on-collection-errors",)


def _environment() -> dict[str, str]:
    """Return our environment, in which the plugin is found, but no pytest around us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}
