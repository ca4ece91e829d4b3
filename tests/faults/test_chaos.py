"""A short share of chaos in every run; longer where the environment says so."""

from __future__ import annotations

import os

import pytest

from tests.faults import chaos
from tests.faults.servers import installed
from tests.support.broker import KINDS, Servers

SECONDS = float(os.environ.get("ROUTER_CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("ROUTER_CHAOS_SEED", "1"))


@pytest.mark.timeout(SECONDS + 300)
def test_chaos(servers: Servers) -> None:
    """Whatever is killed, transactions are whole, and callers were told the truth."""
    for kind in KINDS:
        installed(servers, kind)
    tally = chaos.run(SECONDS, SEED, servers=1)
    assert tally.violations == [], str(tally)
    assert tally.counts["commits"]
