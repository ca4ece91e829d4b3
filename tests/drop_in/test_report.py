"""The comparison finds what is lost, and excuses nothing but what is named."""

from __future__ import annotations

from pathlib import Path

from tests.drop_in.excused import EXCUSED
from tests.drop_in.plugin import Outcome, named
from tests.drop_in.report import compared, details, excuse
from tests.drop_in.running import Run
from tests.drop_in.sessions import Kind
from tests.drop_in.source import files

TEST = "test/orm/test_session.py::ATest::test_it"
EXCUSED_TEST = "test/orm/test_bind.py::SessionBindTest::test_session_bind"


def test_a_test_that_fails_only_with_ours_is_a_regression() -> None:
    """What passes with SQLAlchemy's session and fails with ours is found, with its reason."""
    plain = Run({TEST: Outcome.PASSED})
    ours = Run({TEST: Outcome.FAILED}, {TEST: "no row"})
    cell = compared("sqlite", Kind.ROUTED, plain, ours)
    assert cell.regressions == {TEST: "no row"}
    assert "REGRESSION, sqlite, routed: " + TEST in "\n".join(details(cell))


def test_a_test_that_is_not_run_with_ours_is_a_regression() -> None:
    """A test that a process took with it when it died is not taken for one that passed."""
    plain = Run({TEST: Outcome.PASSED})
    assert list(compared("sqlite", Kind.ROUTED, plain, Run()).regressions) == [TEST]


def test_a_test_that_is_skipped_with_ours_is_a_regression() -> None:
    """A test cannot be made to pass by skipping it."""
    plain, ours = Run({TEST: Outcome.PASSED}), Run({TEST: Outcome.SKIPPED})
    assert list(compared("sqlite", Kind.ROUTED, plain, ours).regressions) == [TEST]


def test_what_fails_anyway_is_no_regression_and_is_told() -> None:
    """A test that fails with SQLAlchemy's session says nothing about ours, and is printed."""
    run = Run({TEST: Outcome.FAILED})
    cell = compared("sqlite", Kind.ROUTED, run, run)
    assert not cell.regressions
    assert cell.plain_failures == [TEST]


def test_an_excuse_is_exact() -> None:
    """An excuse covers a test with any parameters, and no other test or session."""
    assert excuse(Kind.ROUTED, EXCUSED_TEST)
    assert excuse(Kind.ROUTED, f"{EXCUSED_TEST}[a-b]")
    assert excuse(Kind.ROUTED, f"{EXCUSED_TEST}_twice") is None
    assert excuse(Kind.UNROUTED, EXCUSED_TEST) is None


def test_a_test_has_one_name_on_all_databases() -> None:
    """The server and its version are no part of a test's name."""
    module, cls, name = TEST.split("::")
    assert named(f"{module}::{cls}_sqlite+pysqlite_3_40_1::{name}[a::b]") == f"{TEST}[a::b]"
    assert named(TEST.replace(".py", "_py3k.py")) == TEST
    assert named(f"{module}::{cls}_postgresql+psycopg_16_2::{name}") == TEST


def test_every_excuse_has_a_reason() -> None:
    """Nothing is excused without a word."""
    assert all(why for some in EXCUSED.values() for why in some.values())


def test_files_are_found_once_and_only_those_for_this_python(tmp_path: Path) -> None:
    """A directory stands for its files; those of a later Python are left out."""
    (tmp_path / "orm").mkdir()
    for name in ("test_a.py", "test_b_py399.py", "_fixtures.py"):
        (tmp_path / "orm" / name).touch()
    assert files(tmp_path, ["orm/test_a.py", "orm"]) == ["orm/test_a.py"]
