"""Runs SQLAlchemy's tests with one kind of session, and returns what came of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.drop_in.plugin import KIND, OUTCOMES
from tests.drop_in.sessions import Kind

PROJECT = Path(__file__).parents[2]
MODULE = "tests.drop_in.plugin"


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of each test (``passed``, ``failed`` or ``skipped``), and why some failed."""

    outcomes: Mapping[str, str]
    reasons: Mapping[str, str]


def run(kind: Kind, source: Path, url: str, tests: Sequence[str], processes: int) -> Run:
    """Run `tests`, files and directories of `source`, on a database.

    Raises
    ------
    RuntimeError
        The run came to no end.
    """
    with TemporaryDirectory() as directory:
        outcomes = Path(directory, "outcomes.json")
        # The plugin is ours, and the tests run where they are.
        paths = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {KIND: kind.value, OUTCOMES: str(outcomes), "PYTHONPATH": paths}
        options = ["-o", "addopts=", "-p", MODULE, "-p", "no:cacheprovider", "--dburi", url]
        how = ["-q", "--tb=native", "-n", str(processes), "--maxfail=100000"]
        # -s: the installed SQLAlchemy, not the one beside the tests.
        command = [sys.executable, "-s", "-m", "pytest", *options, *how, *tests]
        done = subprocess.run(
            command,
            cwd=source,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if not outcomes.exists():
            raise RuntimeError(f"{kind.value}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
        return Run(**json.loads(outcomes.read_text()))
