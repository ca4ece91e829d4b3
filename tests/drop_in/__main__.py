"""Runs SQLAlchemy's tests of its ORM with its own session and with ours, and compares."""

from __future__ import annotations

import argparse
import os
import sys

import sqlalchemy

from tests.drop_in.databases import DIALECTS, database
from tests.drop_in.excused import EXCUSED
from tests.drop_in.running import Run, run
from tests.drop_in.sessions import Kind
from tests.drop_in.source import fetched

TESTS = ["test/orm", "test/ext"]


def main() -> int:
    """Return 1 if a test fails with our session that passes with SQLAlchemy's."""
    options = arguments()
    found = []
    with database(options.dialect) as url:
        kinds = [Kind.PLAIN, *(Kind(one) for one in options.kinds)]
        runs = {kind: one_run(kind, url, options) for kind in kinds}
    for kind in kinds[1:]:
        found += regressions(kind, runs[Kind.PLAIN], runs[kind])
    for kind, test in found:
        why = runs[kind].reasons.get(test, "not run")
        say(f"\nREGRESSION, {kind.value}: {test}\n{why}")
    say(f"{len(found)} regressions")
    return 1 if found else 0


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.drop_in", description=__doc__)
    parser.add_argument("--dialect", choices=DIALECTS, default="sqlite")
    kinds = [kind.value for kind in Kind if kind is not Kind.PLAIN]
    parser.add_argument("--kinds", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("tests", nargs="*", default=TESTS, help="files of the distribution")
    return parser.parse_args()


def one_run(kind: Kind, url: str, options: argparse.Namespace) -> Run:
    """Run with one kind of session, and print the numbers."""
    done = run(kind, fetched(), url, options.tests, options.processes)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome in done.outcomes.values():
        counts[outcome] += 1
    numbers = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    say(f"SQLAlchemy {sqlalchemy.__version__}, {options.dialect}, {kind.value}: {numbers}")
    return done


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def regressions(kind: Kind, plain: Run, ours: Run) -> list[tuple[Kind, str]]:
    """Return the tests that pass with SQLAlchemy's session, and not with ours."""
    passing = [test for test, outcome in plain.outcomes.items() if outcome == "passed"]
    excused = EXCUSED[kind]
    broken = [test for test in passing if ours.outcomes.get(test) != "passed"]
    return [(kind, test) for test in broken if not any(part in test for part in excused)]


if __name__ == "__main__":
    sys.exit(main())
