"""The protocol: what is done when, and what follows from how it went.  No input, no output.

A protocol is a generator.  It yields rounds, sets of acts that may happen at the same time,
and is sent what came of each.  README.md beside this argues every ordering.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How long recovery leaves a branch to the one who prepared it."""

KEEP_SECONDS = 7 * 24 * 3600.0
"""How long a verdict can be asked for at least."""


class State(Enum):
    """How far a transaction has got."""

    ACTIVE = "active"
    PREPARING = "preparing"
    PREPARED = "prepared"
    DECIDING = "deciding"
    DECIDED = "decided"
    RESOLVED = "resolved"
    ABORTED = "aborted"
    IN_DOUBT = "in doubt"


class Verdict(Enum):
    """What the log of the decider says of a transaction."""

    COMMIT = "C"
    ABORT = "A"


class Outcome(Enum):
    """How a transaction has ended."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    IN_DOUBT = "in doubt"


class Deed(Enum):
    """What can be done to a participant."""

    RECORD = "record the decision"
    PREPARE = "prepare"
    DECIDE = "commit the decider"
    ASK = "ask for the decision"
    COMMIT = "commit"
    ROLL_BACK = "roll back"

    # Acts are keys, and the hash of an Enum's members is computed in Python.
    __hash__ = object.__hash__


class Act(NamedTuple):
    """Something that is done to one database."""

    deed: Deed
    database: str


Round = Sequence[Act]
Answers = Mapping[Act, "BaseException | Verdict | None"]
"""What came of each act, in the order in which they ended: an error, or what was asked for."""

Protocol = Generator[Round, Answers, T]


class AbortedError(Exception):
    """Nothing was committed; the cause is what went wrong first."""


class InDoubtError(Exception):
    """Nobody can tell yet whether the transaction was committed; nothing may be touched."""


@dataclass(frozen=True, slots=True)
class Parties:
    """The databases that a transaction wrote to.

    `records_first` says that no branch may be prepared before the decision is recorded.
    """

    decider: str
    others: tuple[str, ...]
    records_first: bool


def preparing(parties: Parties) -> Protocol[None]:
    """Prepare everybody, and have the decider record what its commit will mean.

    Raises
    ------
    AbortedError
        Somebody could not, and all were rolled back.
    """
    record = (Act(Deed.RECORD, parties.decider),)
    prepares = tuple(Act(Deed.PREPARE, other) for other in parties.others)
    for acts in [record, prepares] if parties.records_first else [(*record, *prepares)]:
        answers = yield acts
        failed = _first_error(answers)
        if failed is not None:
            yield from aborting((parties.decider, *parties.others))
            raise AbortedError from failed


def aborting(databases: Sequence[str]) -> Protocol[None]:
    """Roll back; only before the decider is told to commit, or when it has not."""
    yield tuple(Act(Deed.ROLL_BACK, one) for one in databases)


def deciding(parties: Parties) -> Protocol[None]:
    """Commit the decider of a prepared transaction, which commits the transaction.

    Raises
    ------
    AbortedError
        The decider has not committed, and all were rolled back.
    InDoubtError
        It cannot be told whether the decider has committed.
    """
    decide, ask = Act(Deed.DECIDE, parties.decider), Act(Deed.ASK, parties.decider)
    failed = (yield (decide,))[decide]
    if not isinstance(failed, BaseException):
        return
    # Lost may be the commit, or only the answer.
    verdict = (yield (ask,))[ask]
    if verdict is Verdict.COMMIT:
        return
    if verdict is not Verdict.ABORT:
        raise InDoubtError from failed
    yield from aborting(parties.others)
    raise AbortedError from failed


def finishing(parties: Parties) -> Protocol[list[tuple[str, BaseException]]]:
    """Commit the others of a decided transaction; return who could not be, and why."""
    answers = yield tuple(Act(Deed.COMMIT, other) for other in parties.others)
    return [
        (act.database, error) for act, error in answers.items() if isinstance(error, BaseException)
    ]


def follow(protocol: Protocol[T], perform: Callable[[Round], Answers]) -> T:
    """Have `perform` do what `protocol` wants; return its outcome."""
    acts = next(protocol)
    while True:
        answers = perform(acts)
        try:
            acts = protocol.send(answers)
        except StopIteration as end:
            outcome: T = end.value
            return outcome


def _first_error(answers: Answers) -> BaseException | None:
    return next((one for one in answers.values() if isinstance(one, BaseException)), None)
