"""``python -m tests.oracle --dialect sqlite --statements 20000 --seed x``: run and report."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import warnings
from contextlib import ExitStack
from functools import partial
from itertools import takewhile
from pathlib import Path

from tests.oracle.report import run
from tests.oracle.worlds import DIALECTS, icu_databases, world
from tests.support.broker import Broker
from tests.support.colours import Colour
from tests.support.databases import fresh_databases


def main() -> int:
    """Run; return 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--dialect", choices=DIALECTS, default="sqlite")
    parser.add_argument("--colour", type=Colour, choices=list(Colour), default=Colour.SYNC)
    parser.add_argument("--statements", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first statement")
    parser.add_argument("--seed", default="")
    parser.add_argument("--examples", type=int, default=20)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    # A run that is cut short still reports.
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    broker = Broker()
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            databases = (
                icu_databases()
                if given.dialect == "postgresql-icu"
                else fresh_databases(broker, directory)
            )
            oracle = stack.enter_context(
                world(given.dialect, given.seed, stack.enter_context(databases), given.colour)
            )
            numbers = range(given.first, given.first + given.statements)
            wanted = takewhile(lambda _: not stopped.is_set(), numbers)
            statements = partial(run, oracle, given.dialect, given.seed, wanted)
            report = given.colour.within(statements, oracle.router)
    finally:
        broker.close()
    sys.stdout.write("\n".join(report.lines(given.examples)) + "\n")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
