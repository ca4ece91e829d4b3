"""The coordinator is killed or stopped at every step, by every kind of decider."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from router.transaction.cleaning import clean
from tests.faults.coordinators import Step, started, steps
from tests.faults.ledger import WORLDS, Colour, Ledgers, assert_whole
from tests.support.processes import eventually

STEPS = steps(2)
DECIDERS = pytest.mark.parametrize("decider", list(WORLDS))
COLOURS = pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.value)


@DECIDERS
@COLOURS
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed(ledgers: Ledgers, decider: str, colour: Colour, step: Step) -> None:
    """Recovery finishes what was decided, undoes what was not, and leaves nothing behind."""
    ledger = ledgers.of(decider)
    with started(ledger.urls, ledger.begin(), colour, step, signal.SIGKILL) as process:
        process.join()
    assert process.exitcode == -signal.SIGKILL
    if step.leaves_branches:
        assert ledger.router.in_doubt().branches
    found = ledger.router.recover(grace=0)
    assert not [one for one in found if one.is_open]
    if step.is_decided:
        ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)
    assert eventually(ledger.forgets)


@DECIDERS
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_stopped(ledgers: Ledgers, decider: str, step: Step) -> None:
    """One that goes on after recovery was there finds everything decided, one way or the other."""
    ledger = ledgers.of(decider)
    with started(ledger.urls, ledger.begin(), Colour.SYNC, step, signal.SIGSTOP) as process:
        pid = process.pid or 0
        assert eventually(lambda: is_stopped(pid))
        ledger.router.recover(grace=0)
        # Rows that are still needed must stay.
        clean(ledger.router.engines, keep=0)
        os.kill(pid, signal.SIGCONT)
        process.join()
    assert eventually(lambda: not [one for one in ledger.router.recover(grace=0) if one.is_open])
    # What its caller was told is true.
    if process.exitcode == 0:
        ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)


def is_stopped(pid: int) -> bool:
    """Return whether a process does not run, but could go on."""
    status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return status.rpartition(")")[2].split()[0] == "T"
