"""What is merged from shards against what one database gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from tests.conftest import DIALECTS, MakeDatabases
from tests.session.merging import SHARDS, Fact, Merging, merging


@pytest.fixture(scope="module", params=DIALECTS)
def merged(
    request: pytest.FixtureRequest, make_module_databases: MakeDatabases
) -> Iterator[Merging]:
    """All rows in one database, and over shards, on each kind of server."""
    urls = make_module_databases(request.param, 1 + SHARDS)
    with merging(request.param, urls) as found:
        yield found


def test_first(merged: Merging) -> None:
    """x."""
    F = Fact
    merged.agree(select(F.k, F.n, F.i).order_by(F.i, F.k, F.n))
    merged.agree(select(func.count(), func.sum(F.i), func.max(F.i)))
    merged.agree(select(F.i, func.count(), func.sum(F.big)).group_by(F.i).order_by(F.i))
    merged.agree(select(F.i, func.avg(F.i), func.avg(F.small)).group_by(F.i).order_by(F.i))
