"""Measure everything and print a table: ``python -m benchmarks [--rounds N] [--write]``."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy

from benchmarks.cases import cases
from benchmarks.commits import far_commits, near_commits
from benchmarks.distance import MILLISECONDS, WRITE_MILLISECONDS, distances, far_writes
from benchmarks.exact import merges
from benchmarks.measure import Row, compare, import_time
from benchmarks.models import worlds
from router.testing.servers.process import Durability

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    """Run the benchmarks; `--write` puts the table into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each case")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    arguments = parser.parse_args()
    with worlds() as both:
        rows = [compare(case, both, arguments.rounds) for case in cases(both)]
        far = distances(both, max(5, arguments.rounds // 2))
        far_written = far_writes(both, max(5, arguments.rounds // 2))
        exact = merges(both, max(5, arguments.rounds // 2))
    # A commit that need not be durable is none.
    with worlds(Durability.FULL) as both:
        ends = far_commits(both, max(5, arguments.rounds // 2))
        ends += near_commits(both, max(5, arguments.rounds // 2))
    rows.append(import_time(max(5, arguments.rounds // 2)))
    table = render(rows, "routed", "plain")
    table += f"\n\n{FAR}\n\n{render(far, 'four shards', 'one shard')}"
    table += f"\n\n{FAR_WRITES}\n\n{render(far_written, 'routed', 'plain')}"
    table += f"\n\n{COMMITS}\n\n{render(ends, 'routed', 'the other')}"
    table += f"\n\n{EXACT}\n\n{render(exact, 'merged', 'gathered')}"
    print(table)
    if arguments.write:
        PAGE.write_text(page(table))


FAR = f"""\
Four shards at once beside one of them, with {MILLISECONDS:g} ms of latency added each way by a
proxy. What is timed is a whole session: taking or opening connections, the statement, release."""


FAR_WRITES = f"""\
A write to four shards beside one to a plain database, all with {WRITE_MILLISECONDS:g} ms of latency
added each way."""


COMMITS = f"""\
What is left to do at the end of a transaction, beside SQLAlchemy's own: `commit()` alone is timed,
on a server that makes commits durable. All but the last with {WRITE_MILLISECONDS:g} ms of latency
added each way. In the last row, threads share one interpreter."""


EXACT = """\
The same statements over four shards, merged from what each answers, and gathered: on copies of
the table in one database. A statement that can be merged is never slower so."""


def render(rows: Sequence[Row], ours: str, theirs: str) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"| case | {ours}, ms | {theirs}, ms | ratio | limit |", "|---|---|---|---|---|"]
    for row in rows:
        limit = f"{row.limit:.2f}" if row.limit is not None else ""
        lines.append(
            f"| {row.name} | {row.ours:.1f} | {row.theirs:.1f} | {row.ratio:.2f} | {limit} |"
        )
    return "\n".join(lines)


def page(table: str) -> str:
    """Return the documentation page that holds the table."""
    versions = f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}"
    return (
        "# Benchmarks\n\n"
        "What routing costs beside a plain `Session` on one database that holds all the rows.\n"
        "Both sides run in turn in one process against one local PostgreSQL server; the ratio\n"
        "is the median over the rounds. Milliseconds depend on the machine, ratios less so.\n"
        f"Repeat with `make bench`. Measured with {versions}.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
