"""Coordinators in processes of their own, which end or stop at a named step."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from router.transaction import recovery
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act, Deed
from tests.faults.ledger import Colour, open_ledger, transact

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.coordinators"])


@dataclass(frozen=True)
class Step:
    """The moment `number` of an act's kind."""

    moment: Moment
    deed: Deed
    number: int = 1

    def __str__(self) -> str:
        return f"{self.moment.value} {self.deed.name.lower()} {self.number}"

    @property
    def is_decided(self) -> bool:
        """Whether the decision has been made when it comes."""
        after = (self.moment, self.deed) == (Moment.AFTER, Deed.DECIDE)
        return after or self.deed is Deed.COMMIT

    @property
    def leaves_branches(self) -> bool:
        """Whether branches are prepared, for certain, when the coordinator ends there."""
        return self.deed is Deed.DECIDE or self == Step(Moment.BEFORE, Deed.COMMIT)


def steps(others: int) -> list[Step]:
    """Return every step of a commit with so many participants beside the decider."""
    return _steps({Deed.RECORD: 1, Deed.PREPARE: others, Deed.DECIDE: 1, Deed.COMMIT: others})


def undoing(others: int) -> list[Step]:
    """Return every step in which a commit is undone that somebody could not be prepared for."""
    return _steps({Deed.ROLL_BACK: others + 1})


def _steps(numbers: dict[Deed, int]) -> list[Step]:
    return [
        Step(moment, deed, number)
        for deed, most in numbers.items()
        for number in range(1, most + 1)
        for moment in Moment
    ]


class UnpreparedError(Exception):
    """Somebody could not be prepared."""


class Signal:
    """A probe that sends this process a signal at a step.

    If that is one of undoing, the last one to be prepared of `others` fails.
    """

    def __init__(self, step: Step, number: signal.Signals, others: int) -> None:
        self._step = step
        self._number = number
        self._last = Step(Moment.BEFORE, Deed.PREPARE, others)
        self._counts: Counter[tuple[Moment, Deed]] = Counter()

    def __call__(self, moment: Moment, act: Act) -> None:
        """Count, and send it when it is time."""
        self._counts[moment, act.deed] += 1
        now = Step(moment, act.deed, self._counts[moment, act.deed])
        if now == self._step:
            os.kill(os.getpid(), self._number)
        if now == self._last and self._step.deed is Deed.ROLL_BACK:
            raise UnpreparedError


@contextmanager
def started(
    urls: Sequence[str], number: int, colour: Colour, step: Step, sent: signal.Signals
) -> Iterator[BaseProcess]:
    """Run a process that makes the transaction `number`, and is sent a signal at `step`."""
    process = CONTEXT.Process(target=_commit, args=(list(urls), number, colour, step, sent))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _commit(urls: list[str], number: int, colour: Colour, step: Step, sent: signal.Signals) -> None:
    with open_ledger(urls) as router, probing(Signal(step, sent, len(urls) - 1)):
        transact(router, number, colour)


class Recovering:
    """Stands before `settle`: a process that recovers gets a signal before or after a branch."""

    def __init__(self, moment: Moment, number: int, sent: signal.Signals) -> None:
        self._at = (moment, number)
        self._sent = sent
        self._count = 0
        self._settle = recovery.settle

    def __call__(self, *given: Any) -> None:
        """Settle a branch."""
        self._count += 1
        self._notice(Moment.BEFORE)
        self._settle(*given)
        self._notice(Moment.AFTER)

    def _notice(self, moment: Moment) -> None:
        if (moment, self._count) == self._at:
            os.kill(os.getpid(), self._sent)


@contextmanager
def recovering(urls: Sequence[str], sent: Recovering | None = None) -> Iterator[BaseProcess]:
    """Run a process that recovers once."""
    process = CONTEXT.Process(target=_recover, args=(list(urls), sent))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _recover(urls: list[str], sent: Recovering | None) -> None:
    if sent is not None:
        recovery.settle = sent
    with open_ledger(urls) as router:
        router.recover(grace=0)
