"""The public names, and the examples of the README."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

import router
from router import AsyncRoutingSession, Router, RoutingSession
from router.session.aio import AsyncRoutingScopedSession
from router.session.registry import RoutingScopedSession

ROOT = Path(__file__).parents[2]


def test_public_names() -> None:
    """What `router` exports is a promise; a change here is a decision."""
    assert router.__all__ == [
        "AsyncRoutingSession",
        "CrossShardError",
        "Outcome",
        "Router",
        "RouterError",
        "RoutingError",
        "RoutingSession",
        "ShardMapError",
        "ShardUnavailableError",
        "TransactionInDoubtError",
        "on_shard",
        "retry",
    ]
    assert all(hasattr(router, name) for name in router.__all__)


ADDED = {"after", "partition", "token", "using"}


def test_names_added_to_session() -> None:
    """`RoutingSession` adds few public names to `Session`, and all of them are known here."""
    added = {name for name in dir(RoutingSession) if not name.startswith("_")} - set(dir(Session))
    assert added == ADDED


def test_names_added_to_the_asyncio_classes() -> None:
    """They add the same names to their classes of SQLAlchemy's."""
    for own, base in (
        (AsyncRoutingSession, AsyncSession),
        (AsyncRoutingScopedSession, async_scoped_session),
    ):
        names = {name for name in dir(own) if not name.startswith("_")}
        assert names - set(dir(base)) == ADDED, own


def test_names_added_to_scoped_session() -> None:
    """The registry adds the same names to `scoped_session`."""
    names = {name for name in dir(RoutingScopedSession) if not name.startswith("_")}
    assert names - set(dir(scoped_session)) == ADDED


@pytest.mark.parametrize(
    "name", ["from_yaml", "from_dict", "sessionmaker", "scoped_session", "async_sessionmaker"]
)
def test_router_methods_are_documented(name: str) -> None:
    """The methods that users start with say what they do."""
    assert inspect.getdoc(getattr(Router, name))


def _block(language: str, file: str = "README.md", heading: str = "") -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    text = text[text.index(heading) :]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_readme_example_runs(tmp_path: Path) -> None:
    """The README's YAML and Python work when pasted."""
    (tmp_path / "shards.yaml").write_text(_block("yaml"), encoding="utf-8")
    (tmp_path / "example.py").write_text(_block("python"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "10"
    assert lines[2] == "[9, 8]"
    assert lines[3].startswith("one: ")


def test_asyncio_example_runs(tmp_path: Path) -> None:
    """The recipe for asyncio works with the README's YAML and models."""
    readme = _block("python")
    (tmp_path / "shards.yaml").write_text(_block("yaml"), encoding="utf-8")
    (tmp_path / "example.py").write_text(
        "import asyncio\nfrom sqlalchemy.orm import selectinload\n"
        + readme[: readme.index("router = ")]
        + 'Router.from_yaml("shards.yaml", metadata=Base.metadata).create_all()\n'
        + _block("python", "docs/sessions.md", "## Asyncio"),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n", done.stderr
