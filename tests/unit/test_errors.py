"""The catalogue of ids, its documentation, and the errors themselves."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from sqlalchemy import exc as sa_exc

from router import (
    CrossShardError,
    RouterError,
    RoutingError,
    ShardMapError,
    ShardUnavailableError,
    TransactionInDoubtError,
)
from router.catalogue import CATALOGUE
from router.errors import Problem, UnboundTableError

ROOT = Path(__file__).parents[2]
RESERVED = {"R410"}
"""Ids of errors that nothing raises yet but the tree of errors promises."""

ERRORS: list[RouterError] = [
    RoutingError("R204", "a key", where="shards.yaml:3:1"),
    UnboundTableError("R201", "a table"),
    CrossShardError("R301", "a statement", fix="another one"),
    ShardMapError([Problem("R206", "one", "a.yaml:1:1"), Problem("R201", "two")]),
    ShardUnavailableError("d0", "database d0", ConnectionError("refused")),
    TransactionInDoubtError("123", {"d0": "prepared"}),
]


def used_ids() -> set[str]:
    """Return every id in the sources, outside the catalogue."""
    files = (path for path in (ROOT / "router").rglob("*.py") if path.name != "catalogue.py")
    return {one for path in files for one in re.findall(r'"(R\d{3})"', path.read_text("utf-8"))}


def test_ids_are_used_and_known() -> None:
    """Every id in the code is in the catalogue, and the catalogue has no dead ones."""
    assert used_ids() | RESERVED == set(CATALOGUE)


def test_ids_are_in_order() -> None:
    """The catalogue reads from R1xx to R7xx."""
    assert list(CATALOGUE) == sorted(CATALOGUE)


def test_documentation() -> None:
    """`docs/errors.md` has a section for each id, with the catalogue's title."""
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (R\d{3}) (.+)$", page, re.MULTILINE))
    assert sections == {one: entry.title for one, entry in CATALOGUE.items()}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors(error: RouterError) -> None:
    """Each says id, what and how to fix it, is SQLAlchemy's, and survives pickling."""
    assert isinstance(error, sa_exc.InvalidRequestError)
    assert error.id in str(error)
    assert error.what in str(error)
    assert error.fix in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.id == error.id


def test_kinds() -> None:
    """Handlers of SQLAlchemy's own errors go on working."""
    assert issubclass(ShardUnavailableError, sa_exc.OperationalError)
    assert issubclass(UnboundTableError, sa_exc.UnboundExecutionError)
