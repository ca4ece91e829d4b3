"""Random statements give from merged shards what one database gives."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from router.rewrite.decompose import Decomposition, decompose
from tests.conftest import DIALECTS, MakeDatabases
from tests.session import merge_statements as statements
from tests.session.merging import SHARDS, Merging, merging

ROUNDS = int(os.environ.get("ROUTER_MERGE_ROUNDS", "60"))
"""Statements of each kind; thousands were tried with more."""

KINDS = ("plain", "distinct_rows", "groups", "windows")


@pytest.fixture(scope="module", params=DIALECTS)
def filled(
    request: pytest.FixtureRequest, make_module_databases: MakeDatabases
) -> Iterator[tuple[str, Merging]]:
    """All rows in one database, and over shards, on each kind of server."""
    urls = make_module_databases(request.param, 1 + SHARDS)
    with merging(request.param, urls, seed=5) as found:
        yield request.param, found


@pytest.mark.parametrize("kind", KINDS)
def test_random_statements_agree(filled: tuple[str, Merging], kind: str) -> None:
    """Values, types, digits, names and order are those of one database."""
    dialect, merged = filled
    outcome: Counter[str] = Counter()
    for seed in range(ROUNDS):
        generator = random.Random(f"{kind} {seed}")
        make = getattr(statements, kind)
        statement, ordered = make(generator, dialect) if kind == "groups" else make(generator)
        if dialect == "mariadb" and "NULLS" in str(statement):
            continue
        found = decompose(statement, None, merged.terms)
        if not isinstance(found, Decomposition):
            outcome[found.reason] += 1
            continue
        outcome["merged"] += 1
        merged.agree(statement, ordered=ordered)
    assert outcome["merged"] > ROUNDS // 10, outcome
