"""Every statement of ``tests/plans/*.yaml`` goes where the file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plans.cases import cases, copy_command, files, plan, write_aside


@pytest.mark.parametrize("file", files(), ids=lambda file: file.stem)
def test_plans(file: Path) -> None:
    """The plans are the expected ones; new ones are written aside."""
    wrong = [case["statement"] for case in cases(file) if plan(case) != case.get("plan")]
    if wrong:
        listed = "\n".join(wrong)
        pytest.fail(f"{listed}\nlook at the new plans, then: {copy_command(write_aside())}")


def test_there_are_many() -> None:
    """The goldens cover the statements of the contract, refusals included."""
    plans = [case["plan"] for file in files() for case in cases(file)]
    assert len(plans) > 120
    assert sum("refused" in one for one in plans) > 40


def test_no_statement_is_there_twice() -> None:
    """Each case says something of its own."""
    seen = [
        tuple(str(case.get(name)) for name in ("statement", "params", "hint", "pinned", "near"))
        for file in files()
        for case in cases(file)
    ]
    assert [one for one in seen if seen.count(one) > 1] == []
