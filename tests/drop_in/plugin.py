"""A plugin of pytest: puts our session in the place of SQLAlchemy's, and keeps all outcomes.

The environment says which session, and the file to which outcomes are written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.drop_in.sessions import Kind, listen_again, substitute

KIND = "ROUTER_DROP_IN_KIND"
OUTCOMES = "ROUTER_DROP_IN_OUTCOMES"

_outcomes: dict[str, str] = {}
_reasons: dict[str, str] = {}


def pytest_configure() -> None:
    """Put our session in its place, before any module of tests is imported."""
    substitute(Kind(os.environ[KIND]))


def pytest_runtest_setup() -> None:
    """Listen to our own sessions again: some tests take all listeners away."""
    listen_again()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what came of a test; what failed in any phase has failed."""
    if report.failed:
        _outcomes[report.nodeid] = "failed"
        _reasons[report.nodeid] = _last_lines(report.longreprtext)
    elif report.when == "call" or report.skipped:
        _outcomes.setdefault(report.nodeid, report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write all outcomes; of several processes, the one that gathers them does."""
    if not hasattr(session.config, "workerinput"):
        found = {"outcomes": _outcomes, "reasons": _reasons}
        Path(os.environ[OUTCOMES]).write_text(json.dumps(found))


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-12:])
