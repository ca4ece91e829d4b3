"""Ledgers that live as long as the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.ledger import Ledgers
from tests.support.databases import MakeDatabases


@pytest.fixture(scope="module")
def ledgers(make_module_databases: MakeDatabases) -> Iterator[Ledgers]:
    """A ledger for each kind of decider, made when first asked for."""
    with ExitStack() as stack:
        yield Ledgers(make_module_databases, stack)
