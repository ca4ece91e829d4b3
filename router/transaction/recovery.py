"""Settles what crashed coordinators have left; any number of processes at once may do it.

A branch is handled only when it is seen twice, some time apart: a live coordinator needs no
help, and would be stopped by the question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, Engine

from router.transaction import log
from router.transaction.fence import fence
from router.transaction.listing import Listed, prepared
from router.transaction.names import Branch, age_of
from router.transaction.protocol import GRACE_SECONDS, Outcome, Verdict
from router.transaction.reaching import UNREACHABLE, connected
from router.transaction.settling import settle

_logger = logging.getLogger("router.transaction")


class Action(Enum):
    """What recovery has done about a branch."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNDECIDED = "undecided"
    UNDECIDED_ELSEWHERE = "decided by a database that is not in the map, or not reached"
    FAILED = "decided, but not settled"
    UNREACHABLE = "database not reached"


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A branch that is prepared in a database."""

    database: str
    listed: Listed

    @property
    def branch(self) -> Branch:
        """Its names."""
        return self.listed.branch

    @property
    def age(self) -> float:
        """Seconds since its transaction was named, by the clocks of two processes."""
        return age_of(self.branch.gtid)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done about one branch in doubt; `gtid` is empty for a whole database."""

    gtid: str
    database: str
    action: Action
    detail: str = ""

    @property
    def is_open(self) -> bool:
        """Whether something is left to do."""
        return self.action not in (Action.COMMITTED, Action.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Survey:
    """What is prepared in the databases of a map; `names` are those reached, by identity."""

    names: Mapping[str, str]
    branches: tuple[InDoubt, ...]
    unreachable: tuple[Recovered, ...]


def look(engines: Mapping[str, Engine]) -> Survey:
    """Return all branches that are prepared now, and the databases that do not answer."""
    names: dict[str, str] = {}
    listed: list[InDoubt] = []
    unreachable: list[Recovered] = []
    copies: set[str] = set()
    for name, engine in engines.items():
        try:
            identity, found = connected(engine, _identity_and_branches)
        except UNREACHABLE as error:
            unreachable.append(Recovered("", name, Action.UNREACHABLE, first_line(error)))
            continue
        if identity is None:
            continue
        first = names.setdefault(identity, name)
        if log.is_copy(engines[first], engine):
            copies.add(identity)
            what = f"it has the same identity as {first}, of which it is a copy"
            unreachable.append(Recovered("", name, Action.UNREACHABLE, what))
        names[identity] = name
        listed += [InDoubt(name, one) for one in found]
    # Which of them has decided, nobody can tell.
    names = {one: name for one, name in names.items() if one not in copies}
    own = [one for one in listed if names.get(one.branch.participant) == one.database]
    return Survey(names, tuple(own), tuple(unreachable))


class Recovery:
    """Looks after the databases of one map.

    Parameters
    ----------
    engines:
        The databases by name.
    pause:
        Sleeps for so many seconds.
    """

    def __init__(self, engines: Mapping[str, Engine], pause: Callable[[float], None]) -> None:
        self._engines = engines
        self._pause = pause

    def recover(self, grace: float = GRACE_SECONDS) -> list[Recovered]:
        """Settle every branch that is there now and after `grace` seconds."""
        before = look(self._engines)
        if not before.branches:
            return list(before.unreachable)
        self._pause(grace)
        now = look(self._engines)
        verdicts: dict[str, Verdict | None] = {}
        done = [
            self._handle(one, now.names, verdicts) for one in now.branches if one in before.branches
        ]
        return [*done, *now.unreachable]

    def outcome(self, gtid: str) -> Outcome:
        """Return how a transaction has ended, asking every database that may have decided it.

        What nobody has decided will never be committed from then on.
        """
        survey = look(self._engines)
        verdicts = [fence(self._engines[name], gtid) for name in survey.names.values()]
        if Verdict.COMMIT in verdicts:
            return Outcome.COMMITTED
        unknown = None in verdicts or survey.unreachable or not verdicts
        return Outcome.IN_DOUBT if unknown else Outcome.ABORTED

    def _handle(
        self, one: InDoubt, deciders: Mapping[str, str], verdicts: dict[str, Verdict | None]
    ) -> Recovered:
        gtid = one.branch.gtid
        decider = deciders.get(one.branch.decider)
        if decider is None:
            return Recovered(gtid, one.database, Action.UNDECIDED_ELSEWHERE)
        if gtid not in verdicts:
            verdicts[gtid] = fence(self._engines[decider], gtid)
        verdict = verdicts[gtid]
        if verdict is None:
            return Recovered(gtid, one.database, Action.UNDECIDED)
        return self._settle(one, verdict)

    def _settle(self, one: InDoubt, verdict: Verdict) -> Recovered:
        gtid = one.branch.gtid
        try:
            settle(self._engines[one.database], one.listed, verdict, self._pause)
        except UNREACHABLE as error:
            return Recovered(gtid, one.database, Action.FAILED, first_line(error))
        action = Action.COMMITTED if verdict is Verdict.COMMIT else Action.ROLLED_BACK
        _logger.info("transaction %s: %s in %s", gtid, action.value, one.database)
        return Recovered(gtid, one.database, action)


def _identity_and_branches(connection: Connection) -> tuple[str | None, list[Listed]]:
    identity = log.identity_of(connection)
    return identity, prepared(connection) if identity is not None else []


def first_line(error: Exception) -> str:
    """Return what an error says, without statements and parameters."""
    return str(error).splitlines()[0]
