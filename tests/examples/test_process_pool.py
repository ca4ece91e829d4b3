"""The process pool: each process has connections of its own, and closes them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import func, select

from examples.shop.data import TENANTS
from examples.shop.models import Order
from examples.shop.opening import open_router
from tests.support.databases import query
from tests.support.processes import REPOSITORY, eventually

METHODS = ["spawn", "fork", "forkserver"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"], indirect=True)
def test_every_tenant_is_served(shop: dict[str, str], method: str) -> None:
    """The program prints a line for each tenant, has written what it says, and warns of nothing."""
    done = run("examples.process_pool", method)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1:] for line in lines] == [[tenant, "4", "70700"] for tenant in sorted(TENANTS)]
    with open_router() as router, router.sessionmaker()() as session:
        many = select(Order.tenant_id, func.count()).group_by(Order.tenant_id)
        assert dict(map(tuple, session.execute(many))) == dict.fromkeys(TENANTS, 4)


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_no_connection_is_shared_across_a_fork(shop: dict[str, str]) -> None:
    """The parent keeps its connections, and the workers have others, which end with them."""
    done = run("tests.examples.forked")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    before, after, theirs = ({int(pid) for pid in line.split()} for line in lines)
    assert len(before) == 2
    assert before == after
    assert theirs
    assert theirs.isdisjoint(before)
    assert eventually(lambda: theirs.isdisjoint(connected(shop["SHOP_0"], shop["SHOP_1"])))


def connected(*urls: str) -> set[object]:
    """Return the servers' names of all connections."""
    return {pid for url in urls for (pid,) in query(url, "SELECT pid FROM pg_stat_activity")}


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program, to which every warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
