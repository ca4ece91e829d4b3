"""The coordinator is killed or stopped at every step, by every kind of decider."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from router.transaction.cleaning import clean
from router.transaction.probes import Moment
from router.transaction.protocol import Deed
from tests.faults.coordinators import Recovering, Step, recovering, started, steps, undoing
from tests.faults.ledger import WORLDS, Colour, Ledger, Ledgers, assert_whole, recovers, transact
from tests.support.processes import eventually

DECIDERS = pytest.mark.parametrize("decider", list(WORLDS))
COLOURS = pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.value)
MOST = 4
WHOLE = os.environ.get("ROUTER_FAULTS") == "all"
"""Whether to stop coordinators at every step, which takes minutes: others wait for them."""


def every_step(numbers: Sequence[int], whole: bool = True) -> Any:
    """Return the steps of commits with so many participants beside the decider.

    Unless all of them are wanted, of many branches only the first and the last one count.
    """
    found = [(others, step) for others in numbers for step in (*steps(others), *undoing(others))]
    made = [
        pytest.param(others, step, id=f"{others}-{step}", marks=[pytest.mark.slow] * (others != 2))
        for others, step in found
        if whole or others <= 2 or step.number in (1, others, others + 1)
    ]
    return pytest.mark.parametrize(("others", "step"), made)


@DECIDERS
@COLOURS
@every_step(range(1, MOST + 1))
def test_killed(ledgers: Ledgers, decider: str, colour: Colour, others: int, step: Step) -> None:
    """Recovery finishes what was decided, undoes what was not, and leaves nothing behind."""
    ledger = ledgers.of(decider, others)
    with started(ledger.urls, ledger.begin(), colour, step, signal.SIGKILL) as process:
        process.join()
    assert process.exitcode == -signal.SIGKILL
    if step.leaves_branches:
        assert ledger.router.in_doubt().branches
    assert recovers(ledger.router)
    if step.is_decided:
        ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)
    assert eventually(ledger.forgets)


@DECIDERS
@every_step(range(1, MOST + 1) if WHOLE else (2, MOST), WHOLE)
def test_stopped(ledgers: Ledgers, decider: str, others: int, step: Step) -> None:
    """One that goes on after recovery was there finds everything decided, one way or the other."""
    ledger = ledgers.of(decider, others)
    with started(ledger.urls, ledger.begin(), Colour.SYNC, step, signal.SIGSTOP) as process:
        pid = process.pid or 0
        assert eventually(lambda: is_stopped(pid))
        ledger.router.recover(grace=0)
        # Rows that are still needed must stay.
        clean(ledger.router.engines, keep=0)
        os.kill(pid, signal.SIGCONT)
        process.join()
    assert eventually(lambda: recovers(ledger.router))
    # What its caller was told is true.
    if process.exitcode == 0:
        ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)


# -- recovery itself ----------------------------------------------------------------------------

INTERRUPTED = pytest.mark.parametrize("number", [1, 2])
MOMENTS = pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.value)
LEFT = pytest.mark.parametrize(
    "left", [Step(Moment.BEFORE, Deed.DECIDE), Step(Moment.AFTER, Deed.DECIDE)], ids=str
)


def leave(ledger: Ledger, step: Step) -> None:
    """Kill a coordinator at a step at which everybody is prepared."""
    with started(ledger.urls, ledger.begin(), Colour.SYNC, step, signal.SIGKILL) as process:
        process.join()
    assert len(ledger.router.in_doubt().branches) == len(ledger.urls) - 1
    if step.is_decided:
        ledger.committed.add(ledger.number)


@DECIDERS
@LEFT
@INTERRUPTED
@MOMENTS
def test_a_recoverer_that_is_killed(
    ledgers: Ledgers, decider: str, left: Step, number: int, moment: Moment
) -> None:
    """The next one goes on where it was."""
    ledger = ledgers.of(decider)
    leave(ledger, left)
    with recovering(ledger.urls, Recovering(moment, number, signal.SIGKILL)) as process:
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert eventually(lambda: recovers(ledger.router))
    assert_whole(ledger.router, committed=ledger.committed)
    assert eventually(ledger.forgets)


@DECIDERS
@LEFT
@INTERRUPTED
@MOMENTS
def test_a_recoverer_that_is_stopped(
    ledgers: Ledgers, decider: str, left: Step, number: int, moment: Moment
) -> None:
    """Others do its work meanwhile; when it goes on, there is nothing left that it could break."""
    ledger = ledgers.of(decider)
    leave(ledger, left)
    with recovering(ledger.urls, Recovering(moment, number, signal.SIGSTOP)) as process:
        pid = process.pid or 0
        assert eventually(lambda: is_stopped(pid))
        assert eventually(lambda: recovers(ledger.router))
        clean(ledger.router.engines, keep=0)
        transact(ledger.router, ledger.begin())
        ledger.committed.add(ledger.number)
        os.kill(pid, signal.SIGCONT)
        process.join()
    assert process.exitcode == 0
    assert_whole(ledger.router, committed=ledger.committed)
    assert eventually(ledger.forgets)


def is_stopped(pid: int) -> bool:
    """Return whether a process does not run, but could go on."""
    status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return status.rpartition(")")[2].split()[0] == "T"
