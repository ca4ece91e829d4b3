"""Runs SQLAlchemy's tests of its ORM with its own session and with ours, and compares."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from tests.drop_in.baseline import Baseline
from tests.drop_in.databases import DIALECTS, database
from tests.drop_in.report import Cell, compared, details, heading, row
from tests.drop_in.running import Place, run
from tests.drop_in.sessions import Kind
from tests.drop_in.source import fetched, files

TESTS = ["test/orm", "test/ext"]


def main() -> int:
    """Return 1 if a test fails with our session that passes with SQLAlchemy's."""
    options = arguments()
    kinds = [Kind(one) for one in options.kinds]
    cells = []
    say(heading())
    for cell in compared_kinds(
        options.dialect, kinds, options.tests, options.processes, options.fresh
    ):
        say(row(cell))
        cells.append(cell)
    for cell in cells:
        for line in details(cell):
            say(line)
    return 1 if any(cell.regressions or cell.broken for cell in cells) else 0


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.drop_in", description=__doc__)
    parser.add_argument("--dialect", choices=DIALECTS, default="sqlite")
    kinds = [kind.value for kind in Kind if kind is not Kind.PLAIN]
    parser.add_argument("--kinds", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    fresh = "run SQLAlchemy's own session again where its outcomes are known"
    parser.add_argument("--fresh", action="store_true", help=fresh)
    parser.add_argument("tests", nargs="*", default=TESTS, help="files of the distribution")
    return parser.parse_args()


def compared_kinds(
    dialect: str, kinds: Sequence[Kind], tests: Sequence[str], processes: int, fresh: bool
) -> Iterator[Cell]:
    """Run `tests`, files and directories, with each kind of session; yield what came of it."""
    source = fetched()
    paths = files(source, tests)
    with database(dialect) as url:
        place = Place(source, url, processes)
        plain = Baseline(source, dialect).outcomes(place, paths, fresh=fresh)
        for kind in kinds:
            yield compared(dialect, kind, plain, run(kind, place, paths))


if __name__ == "__main__":
    sys.exit(main())
