"""Errors and cut connections at every step: what the caller is told is what is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act, Deed
from tests.faults.coordinators import Step, steps
from tests.faults.ledger import WORLDS, Colour, Ledger, Ledgers, assert_whole, recovers, transact

STEPS = steps(2)
DECIDERS = pytest.mark.parametrize("decider", list(WORLDS))
COLOURS = pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.value)
EVERY_STEP = pytest.mark.parametrize("step", STEPS, ids=str)
SERVERS_OF = {"postgresql": "pid", "mysql": "id", "mariadb": "id"}


class At:
    """A probe that does something at a step, once."""

    def __init__(self, step: Step, what: Callable[[Act], None]) -> None:
        self._step = step
        self._what = what
        self._count = 0
        self.done = False

    def __call__(self, moment: Moment, act: Act) -> None:
        """Count, and do it when it is time."""
        if (moment, act.deed) == (self._step.moment, self._step.deed):
            self._count += 1
            if self._count == self._step.number:
                self.done = True
                self._what(act)


def told(ledger: Ledger, colour: Colour, probe: At) -> BaseException | None:
    """Make a transaction, and return the error that its caller is told."""
    number = ledger.begin()
    error: BaseException | None = None
    try:
        with probing(probe):
            transact(ledger.router, number, colour)
    except BaseException as found:  # noqa: BLE001 - whatever it is, it is looked at
        error = found
    assert probe.done
    return error


def check(ledger: Ledger, error: BaseException | None) -> None:
    """Fail unless the transaction is there if and only if there was no error."""
    if error is None:
        ledger.committed.add(ledger.number)
    assert recovers(ledger.router)
    assert_whole(ledger.router, committed=ledger.committed)


class BrokenError(Exception):
    """What a probe raises."""


@DECIDERS
@COLOURS
@EVERY_STEP
def test_raised(ledgers: Ledgers, decider: str, colour: Colour, step: Step) -> None:
    """Before the decision the error comes out, and nothing is there; after it, none does."""
    ledger = ledgers.of(decider)

    def fail(act: Act) -> None:
        raise BrokenError(act.deed.name)

    error = told(ledger, colour, At(step, fail))
    assert isinstance(error, BrokenError) is not step.is_decided
    check(ledger, error)


@DECIDERS
@EVERY_STEP
def test_interrupted(ledgers: Ledgers, decider: str, step: Step) -> None:
    """Control-C comes out of a commit, which all the same is whole."""
    ledger = ledgers.of(decider)

    def interrupt(act: Act) -> None:
        raise KeyboardInterrupt

    error = told(ledger, Colour.SYNC, At(step, interrupt))
    assert isinstance(error, KeyboardInterrupt)
    check(ledger, None if step.is_decided else error)


@pytest.mark.parametrize("decider", ["postgresql", "mariadb"])
@COLOURS
@EVERY_STEP
def test_cut(ledgers: Ledgers, decider: str, colour: Colour, step: Step) -> None:
    """A connection is lost; the error is the one of that connection."""
    ledger = ledgers.of(decider)
    error = told(ledger, colour, At(step, lambda act: cut(ledger, act)))
    if not step.is_decided and (step.moment, step.deed) != (Moment.AFTER, Deed.COMMIT):
        lost_later = step.moment is Moment.AFTER and step.deed is Deed.PREPARE
        assert isinstance(error, DBAPIError) is not lost_later
    check(ledger, error)


def cut(ledger: Ledger, act: Act) -> None:
    """End every connection to the database of `act`."""
    url = make_url(ledger.urls[int(act.database.removeprefix("b"))])
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if url.get_backend_name() == "postgresql":
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(
                text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")
            )
            return
        mine = "db = database() AND id <> connection_id()"
        query = text(f"SELECT id FROM information_schema.processlist WHERE {mine}")
        for thread in connection.scalars(query).all():
            connection.execute(text(f"KILL {thread}"))
