"""Coordinators in processes of their own, which end or stop at a named step."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

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
    numbers = {Deed.RECORD: 1, Deed.PREPARE: others, Deed.DECIDE: 1, Deed.COMMIT: others}
    return [
        Step(moment, deed, number)
        for deed, most in numbers.items()
        for number in range(1, most + 1)
        for moment in Moment
    ]


class Signal:
    """A probe that sends this process a signal at a step."""

    def __init__(self, step: Step, number: signal.Signals) -> None:
        self._step = step
        self._number = number
        self._count = 0

    def __call__(self, moment: Moment, act: Act) -> None:
        """Count, and send it when it is time."""
        if (moment, act.deed) == (self._step.moment, self._step.deed):
            self._count += 1
            if self._count == self._step.number:
                os.kill(os.getpid(), self._number)


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
    with open_ledger(urls) as router, probing(Signal(step, sent)):
        transact(router, number, colour)


@contextmanager
def recovering(urls: Sequence[str]) -> Iterator[BaseProcess]:
    """Run a process that recovers once."""
    process = CONTEXT.Process(target=_recover, args=(list(urls),))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _recover(urls: list[str]) -> None:
    with open_ledger(urls) as router:
        router.recover(grace=0)
