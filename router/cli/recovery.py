"""What recovery shows: one row for each branch in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from router.transaction.names import age_of
from router.transaction.recovery import Recovered, Survey


@dataclass(frozen=True, slots=True)
class Row:
    """A branch; `age` is in seconds, `open` says whether something is left to do."""

    gtid: str
    database: str
    state: str
    age: float | None
    open: bool
    detail: str = ""


def listed(survey: Survey) -> list[Row]:
    """Return what is in doubt now, and which databases do not answer."""
    rows = [
        Row(one.branch.gtid, one.database, "in doubt", _age(one.branch.gtid), True)
        for one in survey.branches
    ]
    return rows + recovered(survey.unreachable)


def recovered(done: Sequence[Recovered]) -> list[Row]:
    """Return what was done."""
    return [
        Row(one.gtid, one.database, one.action.value, _age(one.gtid), one.is_open, one.detail)
        for one in done
    ]


def print_recovery(rows: Sequence[Row]) -> None:
    """Print a table, or that there is nothing."""
    console = Console(highlight=False)
    if not rows:
        console.print("nothing is in doubt")
        return
    table = Table("transaction", "database", "state", "age in s")
    for row in rows:
        age = "" if row.age is None else f"{row.age:.0f}"
        table.add_row(row.gtid, row.database, row.state, age)
    console.print(table)
    for row in rows:
        if row.detail:
            console.print(f"{row.database}: {row.detail}", markup=False, soft_wrap=True)


def _age(gtid: str) -> float | None:
    return round(age_of(gtid), 1) if gtid else None
