"""Compares what came of tests with SQLAlchemy's session and with ours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy

from tests.drop_in.excused import EXCUSED
from tests.drop_in.plugin import Outcome
from tests.drop_in.running import Run
from tests.drop_in.sessions import Kind

Counts = Mapping[Outcome, int]

_COLUMNS = tuple(Outcome)


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of the tests with one kind of session on one dialect.

    Attributes
    ----------
    plain, ours:
        Numbers of tests, with SQLAlchemy's session and with ours.
    plain_failures:
        Tests that fail with SQLAlchemy's session, so that they say nothing about ours.
    regressions:
        Tests that pass with SQLAlchemy's session and not with ours, and why not.
    excused:
        Those among them that cannot pass, and why not.
    broken:
        What ended the run before its end, if something did.
    """

    dialect: str
    kind: Kind
    plain: Counts
    ours: Counts
    plain_failures: Sequence[str]
    regressions: Mapping[str, str]
    excused: Mapping[str, str]
    broken: str | None


def compared(dialect: str, kind: Kind, plain: Run, ours: Run) -> Cell:
    """Return the comparison of two runs of the same tests."""
    lost = [
        test
        for test, outcome in plain.outcomes.items()
        if outcome is Outcome.PASSED and ours.outcomes.get(test) != Outcome.PASSED
    ]
    excused = {test: why for test in lost if (why := excuse(kind, test)) is not None}
    return Cell(
        dialect,
        kind,
        Counter(plain.outcomes.values()),
        Counter(ours.outcomes.values()),
        [test for test, one in plain.outcomes.items() if one is Outcome.FAILED],
        {test: _why(ours, test) for test in lost if test not in excused},
        excused,
        ours.broken,
    )


def excuse(kind: Kind, test: str) -> str | None:
    """Return why a test cannot pass with a kind of session, None if it can."""
    return EXCUSED[kind].get(test) or EXCUSED[kind].get(test.partition("[")[0])


def heading() -> str:
    """Return the head of the table; the first three numbers are those of SQLAlchemy's session."""
    return _row("SQLAlchemy", "dialect", "kind", *_COLUMNS, *_COLUMNS, "regressions", "excused")


def row(cell: Cell) -> str:
    """Return the cell's row of the table."""
    numbers = [counts.get(one, 0) for counts in (cell.plain, cell.ours) for one in Outcome]
    lost = len(cell.regressions), len(cell.excused)
    return _row(sqlalchemy.__version__, cell.dialect, cell.kind.value, *numbers, *lost)


def _row(*values: object) -> str:
    widths = (11, 24, 9, *(8,) * 6, 12, 8)
    return "".join(str(value).ljust(width) for value, width in zip(values, widths, strict=True))


def details(cell: Cell) -> Iterator[str]:
    """Yield what there is to say about a cell: failures, excuses, and every regression."""
    where = f"{cell.dialect}, {cell.kind.value}"
    for test in cell.plain_failures:
        yield f"\nFAILS WITH SQLALCHEMY'S SESSION, {where}: {test}"
    for why, tests in _by_reason(cell.excused).items():
        yield f"\nEXCUSED, {where}: {why}"
        # Once for all parameters of a test.
        counted = Counter(test.partition("[")[0] for test in tests)
        yield from (f"  {test} ({count})" for test, count in sorted(counted.items()))
    for test, why in cell.regressions.items():
        yield f"\nREGRESSION, {where}: {test}\n{why}"
    if cell.broken is not None:
        yield f"\nBROKEN OFF, {where}: {cell.broken}"


def _by_reason(excused: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for test, why in excused.items():
        found[why].append(test)
    return found


def _why(ours: Run, test: str) -> str:
    found = ours.outcomes.get(test)
    return ours.reasons.get(test) or ("not run" if found is None else f"{found}, for no reason")
