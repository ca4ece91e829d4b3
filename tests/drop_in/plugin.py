"""A plugin of pytest: puts our session in the place of SQLAlchemy's, and writes all outcomes.

The environment says which session, and the file to which outcomes are written, one a line, so
that those of a run that is killed are there as well.
"""

from __future__ import annotations

import json
import os
import re
from enum import StrEnum
from pathlib import Path

import pytest

from tests.drop_in.sessions import Kind, listen_again, substitute

KIND = "ROUTER_DROP_IN_KIND"
OUTCOMES = "ROUTER_DROP_IN_OUTCOMES"

# SQLAlchemy adds the server and its version to the class of a test that runs on every database.
_BACKEND = re.compile(r"_(?:sqlite|postgresql)\+\w+(?=::)")


class Outcome(StrEnum):
    """What came of a test."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


def pytest_configure(config: pytest.Config) -> None:
    """Put our session in its place, before any module of tests is imported."""
    substitute(Kind(os.environ[KIND]))
    if "postgresql" in str(config.getoption("dburi")):
        _want_no_extensions()
    # Of several processes, the one that gathers the outcomes writes them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(Path(os.environ[OUTCOMES])))


def _want_no_extensions() -> None:
    """Have SQLAlchemy create no extension before all tests: the server may not have it."""
    from sqlalchemy.dialects.postgresql import provision

    getattr(provision, "_extensions", []).clear()


def pytest_runtest_setup() -> None:
    """Listen to our own sessions again: some tests take all listeners away."""
    listen_again()


class _Writer:
    """Writes what came of each test; the last line of a test counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What cannot be imported has failed, as a whole."""
        if report.failed:
            self._write(report.nodeid, Outcome.FAILED, report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What failed in any phase has failed."""
        if report.failed:
            self._failed.add(report.nodeid)
            self._write(report.nodeid, Outcome.FAILED, report.longreprtext)
        elif report.nodeid not in self._failed and (report.when == "call" or report.skipped):
            self._write(report.nodeid, Outcome(report.outcome), "")

    def _write(self, test: str, outcome: Outcome, text: str) -> None:
        reason = "\n".join(text.strip().splitlines()[-12:])
        with self._path.open("a") as file:
            file.write(f"{json.dumps([named(test), outcome, reason])}\n")


def named(test: str) -> str:
    """Return the name of a test on any database and SQLAlchemy, from its name on one."""
    return _BACKEND.sub("", test.replace("_py3k.py", ".py", 1))
