"""The `router` command, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDatabases

ROOT = Path(__file__).parents[2]
MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
class Base(DeclarativeBase): ...
class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
MAP = """
version: 1
databases:
  d0: {{ url: "{0}" }}
  d1: {{ url: "{1}" }}
keyspaces:
  shop:
    shards: {{ s0: d0, s1: d1 }}
    sharding: {{ function: modulo }}
    tables: {{ customers: id }}
transactions: {{ two_phase: {2} }}
"""


def command(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `router` with `words`."""
    return subprocess.run(
        [sys.executable, "-c", "from router.cli import main; main()", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **env},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )


def problems(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the ids of what `check` found, without what servers of tests are on purpose."""
    found = [str(problem["id"]) for problem in json.loads(done.stdout)]
    assert done.returncode == bool(found)
    # They are fast, and not durable.
    return [one for one in found if one != "R712"]


@pytest.fixture
def place(tmp_path: Path, make_databases: MakeDatabases) -> Path:
    """A directory with a map over two PostgreSQL databases, and models."""
    urls = make_databases("postgresql", 2)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "shards.yaml").write_text(MAP.format(*urls, "true"))
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def test_check_and_create_all(place: Path) -> None:
    """Tables are missing, are created, and are missing no more."""
    words = ("check", "--metadata", "models:Base", "--json")
    before = command(*words, cwd=place)
    assert problems(before) == ["R701", "R711", "R701", "R711"]
    made = command("create-all", "--metadata", "models:Base.metadata", cwd=place)
    assert (made.returncode, made.stdout) == (0, "1 tables are in place: customers\n")
    after = command(*words, cwd=place)
    assert problems(after) == []


def test_route(place: Path) -> None:
    """The shard and database of a key, as text and as JSON."""
    found = command("route", "shop", "7", cwd=place)
    assert (found.returncode, found.stdout) == (0, "shop/s1 (database d1)\n")
    as_json = command("route", "shop", "8", "--json", cwd=place)
    assert json.loads(as_json.stdout) == {
        "keyspace": "shop",
        "key": ["8"],
        "shard": "shop/s0",
        "database": "d0",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("route", "shop", "seven"), "R204"),
        (("route", "nothing", "7"), "R206"),
        (("check", "--config", "missing.yaml"), "R101"),
        (("check", "--metadata", "models:Nothing"), "R604"),
        (("check", "--metadata", "nothing:Base"), "R604"),
        (("check", "--metadata", "json:dumps"), "R604"),
    ],
)
def test_what_cannot_run(place: Path, words: tuple[str, ...], message: str) -> None:
    """A clear error on stderr, nothing on stdout, and 2."""
    done = command(*words, cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_status(place: Path) -> None:
    """Every database with its version and shards."""
    done = command("status", "--json", cwd=place)
    assert done.returncode == 0
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert [(one["database"], one["homes"]) for one in found] == [
        ("d0", ["shop/s0"]),
        ("d1", ["shop/s1"]),
    ]
    assert all(one["reachable"] and one["version"] for one in found)


def test_status_of_an_unreachable_server(place: Path) -> None:
    """It is named, the other one is shown, and the password is not."""
    dead = "postgresql+psycopg://app:s3cret@127.0.0.1:9/x"
    (place / "dead.yaml").write_text(MAP.format(dead, "sqlite:///d1.db", "false"))
    (place / "dead.yaml").write_text(
        (place / "dead.yaml").read_text().replace("sqlite:///d1.db", dead.replace("/x", "/y"))
    )
    for words in (("status",), ("status", "--json"), ("check",)):
        done = command(*words, cwd=place, ROUTER_CONFIG="dead.yaml")
        assert done.returncode == 1
        assert "127.0.0.1:9" in done.stdout
        assert "s3cret" not in done.stdout + done.stderr
