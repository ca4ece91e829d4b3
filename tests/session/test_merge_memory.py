"""A merge holds batches, not rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import resource, sys
from sqlalchemy import select, text
from tests.session.shop import Order, open_router

router = open_router([f"sqlite:///{sys.argv[1]}/{n}.db" for n in range(5)])
rows = "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 4 FROM n WHERE i < 1000000 - 4) "
for shard in range(4):
    with router.engines[f"d{shard}"].begin() as connection:
        fill = "INSERT INTO orders (customer_id, number, total, version) "
        fill += rows.format(shard) + "SELECT i, 1, i * 7919 % 1000003, 1 FROM n"
        connection.execute(text(fill))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

with router.sessionmaker()() as session:
    statement = select(Order.total, Order.customer_id).order_by(Order.total)
    session.execute(statement.limit(10)).all()
    before, last, count = peak(), -1, 0
    for total, key in session.execute(statement, execution_options={"yield_per": 1000}):
        if total < last:
            sys.exit("not sorted")
        last, count = total, count + 1
print(count, peak() - before)
"""


def test_a_million_rows(tmp_path: Path) -> None:
    """A million rows of four shards, sorted and streamed, within 150 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, grown = map(int, done.stdout.split())
    assert count == 1_000_000
    assert grown < 150
