"""Looks at every replica of a database once, for `router check` and `router status`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import exc as sa_exc

from router.errors import RouterError
from router.hooks.driver import connect
from router.replicas.asking import same_cluster, why_no_replica
from router.replicas.fleet import Fleet
from router.replicas.positions import Position
from router.replicas.standing import Member

SECONDS = 2.0
"""How long a replica has to replay what the primary had when it was asked."""

_PAUSE = 0.02


class Fault(Enum):
    """What may be wrong with a replica."""

    UNREACHABLE = "cannot be reached"
    NO_REPLICA = "is no replica"
    BEHIND = "is behind"


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica; `lag` is in seconds, None if it is longer than was waited or nobody knows."""

    database: str
    number: int
    place: str
    fault: Fault | None = None
    what: str = ""
    lag: float | None = None


def survey(fleet: Fleet, database: str, seconds: float = SECONDS) -> Sequence[Seen]:
    """Return what is found out about each replica of a database, in the order of the map."""
    standing = fleet.standings[database]
    started = time.monotonic()
    try:
        position = fleet.position(database)
    except sa_exc.SQLAlchemyError:
        # That the primary is gone is found by those who look at primaries.
        position = None
    return [_look(fleet, database, one, position, started + seconds) for one in standing.members]


def _look(
    fleet: Fleet, database: str, member: Member, position: Position | None, deadline: float
) -> Seen:
    def seen(fault: Fault | None = None, what: str = "", lag: float | None = None) -> Seen:
        return Seen(database, member.number, member.place, fault, what, lag)

    try:
        why = _why_not(fleet, database, member)
        if why is not None:
            return seen(Fault.NO_REPLICA, why)
        if position is None:
            return seen()
        started = time.monotonic()
        while True:
            replayed = fleet.replayed(database, member)
            if replayed is not None and replayed.covers(position):
                return seen(lag=round(time.monotonic() - started, 2))
            if time.monotonic() >= deadline:
                what = "it has not yet replayed what the primary had when this began"
                return seen(Fault.BEHIND, what)
            time.sleep(_PAUSE)
    except sa_exc.SQLAlchemyError as error:
        what = error.what if isinstance(error, RouterError) else str(error).splitlines()[0]
        return seen(Fault.UNREACHABLE, what)


def _why_not(fleet: Fleet, database: str, member: Member) -> str | None:
    engine = fleet.engine(database, member)
    with connect(engine) as connection:
        why = why_no_replica(connection)
        if why is not None:
            return why
        own = same_cluster(connection)
    try:
        with connect(fleet.primary(database)) as connection:
            other = same_cluster(connection)
    except sa_exc.SQLAlchemyError:
        return None
    return None if own == other else "it replicates another server than its primary"
