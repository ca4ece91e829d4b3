"""Printing: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from router.cli.status import Status
from router.errors import Problem

if TYPE_CHECKING:
    from router.backfill import LookupReport
    from router.explain import Plan


def as_json(value: Any) -> None:
    """Print `value` as JSON and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_problems(problems: Sequence[Problem]) -> None:
    """Print findings, each with its place and remedy."""
    console = Console(highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(str(problem), markup=False)
    count = len(problems)
    console.print("no findings" if not count else f"{count} finding{'s' * (count > 1)}")


def print_report(report: LookupReport) -> None:
    """Print what was found out about a lookup table."""
    console = Console(highlight=False, soft_wrap=True)
    for what in report.differences:
        console.print(what, markup=False)
    counts = f"{report.rows} rows, {report.added} added, {report.wrong} wrong"
    console.print(f"{report.name}: {counts}", markup=False)


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON shows it."""
    refusal = plan.refusal
    return {
        "tier": plan.tier.name.lower(),
        "shards": list(plan.shards),
        "reasons": list(plan.reasons),
        "statements": [asdict(one) for one in plan.statements],
        "steps": list(plan.steps),
        "refused": None if refusal is None else {"id": refusal.id, "what": refusal.what},
    }


def print_statuses(found: Sequence[Status]) -> None:
    """Print one row for each server."""
    table = Table("database", "role", "server", "version", "ms", "lag", "holds")
    for one in found:
        latency = f"{one.latency:.2f}" if one.latency is not None else ""
        version = one.version if one.reachable else "unreachable"
        lag = f"{one.lag:.2f}" if one.lag is not None else ""
        homes = ", ".join(one.homes)
        table.add_row(one.database, one.role, one.server, version, latency, lag, homes)
    console = Console(highlight=False)
    console.print(table)
    for one in found:
        if one.error:
            console.print(f"{one.database}: {one.error}", markup=False, soft_wrap=True)
