"""Interleaved measurements and their medians."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.models import Worlds


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; times are medians in milliseconds."""

    name: str
    ours: float
    theirs: float
    ratio: float
    limit: float | None


def compare(case: Case, worlds: Worlds, rounds: int) -> Row:
    """Time both sides of `case` in turn, each first every other round."""
    sides = (lambda: case.call(worlds.routed), lambda: case.call(worlds.plain))
    return measure(case.name, sides, rounds, case.limit)


def import_time(rounds: int) -> Row:
    """Time ``import router`` against ``import sqlalchemy.orm``, each in a new process."""
    sides = (lambda: _import("router"), lambda: _import("sqlalchemy.orm"))
    return measure("`import router` to `import sqlalchemy.orm`", sides, rounds, 1.3)


def measure(
    name: str,
    sides: tuple[Callable[[], None], Callable[[], None]],
    rounds: int,
    limit: float | None,
) -> Row:
    """Call both sides in turn, and once before."""
    times: tuple[list[float], list[float]] = ([], [])
    for side in sides:
        side()
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)
        for index in order:
            started = time.perf_counter()
            sides[index]()
            times[index].append((time.perf_counter() - started) * 1000)
    ours, theirs = (statistics.median(values) for values in times)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    return Row(name, ours, theirs, ratio, limit)


def _import(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
