"""What is known of the replicas of one database: which answer, and how far behind they are.

The lag is measured without comparing the clocks of servers.  At a moment `t` of this process
the primary is asked for its position.  A replica that has replayed it has everything that was
committed before `t`, however long that took: it is behind by the time since the latest such
`t`.  So an idle primary's replicas are not behind, and one that is cut off falls ever further
behind.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import exc as sa_exc

from router.errors import RouterError
from router.replicas.positions import Position
from router.shardmap.model import Database, Replication

_logger = logging.getLogger("router.replicas")

MAX_MARKS = 1000


@dataclass(slots=True, eq=False)
class Member:
    """One replica, as it was when it was last asked.

    `replayed` is its position, and `current` the latest moment of this process's clock of
    which it is known to have everything; None if that is not known.
    """

    number: int
    weight: int
    place: str
    replayed: Position | None = None
    current: float | None = None
    down_until: float | None = None
    is_out: bool = False


@dataclass(slots=True)
class _Marks:
    """Positions of the primary, each with a moment before it was taken."""

    taken: list[tuple[float, Position]] = field(default_factory=list)

    def add(self, moment: float, position: Position, horizon: float) -> None:
        # Of those too old to matter none is needed, and of an idle primary the last.
        kept = [one for one in self.taken if one[0] >= horizon and one[1] != position]
        self.taken = [*kept[-MAX_MARKS:], (moment, position)]

    def latest_of(self, replayed: Position) -> float | None:
        covered = [moment for moment, position in self.taken if replayed.covers(position)]
        return max(covered, default=None)


class Standing:
    """The replicas of one database, for all sessions and threads of a router.

    Parameters
    ----------
    database:
        As the map has it.
    settings:
        When its replicas are read.
    clock:
        Returns seconds that never go back.
    """

    def __init__(
        self,
        database: Database,
        settings: Replication,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = database.name
        self.settings = settings
        # SQLite has no log that could be compared.
        self.has_positions = database.url.get_backend_name() != "sqlite"
        self.is_serializable = _is_serializable(database)
        self.members = tuple(
            Member(number, one.weight, _place(one.url.host or one.url.database, one.url.port))
            for number, one in enumerate(database.replicas)
        )
        self.random = random.Random()  # noqa: S311
        self.clock = clock
        self._marks = _Marks()
        self._next_look = float("-inf")
        self._next_mark = float("-inf")
        self._looking = threading.Lock()

    # -- choosing --------------------------------------------------------------------------

    def candidates(self) -> Iterator[Member]:
        """Yield the replicas that may be read, the first of them by weight."""
        now = self.clock()
        usable = [one for one in self.members if self._is_usable(one, now)]
        while usable:
            (chosen,) = self.random.choices(usable, [one.weight for one in usable])
            usable.remove(chosen)
            yield chosen

    def _is_usable(self, member: Member, now: float) -> bool:
        if self._is_down(member, now):
            return False
        limit = self.settings.max_lag
        if limit is None or not self.has_positions:
            return True
        lag = self.lag(member, now)
        return lag is not None and lag <= limit

    @staticmethod
    def _is_down(member: Member, now: float) -> bool:
        return member.down_until is not None and now < member.down_until

    def lag(self, member: Member, now: float | None = None) -> float | None:
        """Return by how many seconds a replica is behind at most, None if nobody knows."""
        if member.current is None:
            return None
        return (self.clock() if now is None else now) - member.current

    # -- looking ---------------------------------------------------------------------------

    @property
    def wants_look(self) -> bool:
        """Whether what is known is too old to choose by."""
        limited = self.settings.max_lag is not None and self.has_positions
        return limited and self.clock() >= self._next_look

    def look(
        self,
        of_primary: Callable[[], Position | None],
        of_replica: Callable[[Member], Position | None],
        patience: float | None = None,
    ) -> None:
        """Ask the primary and the replicas how far they are, unless another thread does.

        A replica is left alone that was asked for the seconds of `patience` when we were stopped.
        """
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._mark(of_primary)
            for member in self.members:
                if not self._is_down(member, self.clock()):
                    with self.noticing(member, patience):
                        self._ask(member, of_replica)
            self._next_look = self.clock() + self.settings.check_every
        finally:
            self._looking.release()

    def _mark(self, of_primary: Callable[[], Position | None]) -> None:
        moment = self.clock()
        if moment < self._next_mark:
            return
        try:
            position = of_primary()
        except (sa_exc.DBAPIError, sa_exc.TimeoutError):
            # Replicas are read while they are near enough to what it said last.
            self._next_mark = self.clock() + self.settings.retry_after
            return
        if position is not None:
            self._marks.add(moment, position, moment - 2 * (self.settings.max_lag or 0))

    def _ask(self, member: Member, of_replica: Callable[[Member], Position | None]) -> None:
        try:
            replayed = of_replica(member)
        except sa_exc.TimeoutError:
            # All of our connections to it are in use, which says nothing about it.
            return
        except sa_exc.DBAPIError as error:
            self.failed(member, error)
            return
        self.answered(member)
        self.note(member, replayed)

    def note(self, member: Member, replayed: Position | None) -> None:
        """Remember how far a replica is."""
        before, member.replayed = member.replayed, replayed
        found = self._marks.latest_of(replayed) if replayed is not None else None
        # A replica does not go back: that is another server at its address.
        stays = replayed is not None and (before is None or replayed.covers(before))
        if found is not None or not stays:
            member.current = found

    # -- outages ---------------------------------------------------------------------------

    def failed(self, member: Member, error: BaseException) -> None:
        """Leave a replica alone for a while that does not answer; say so once."""
        member.down_until = self.clock() + self.settings.retry_after
        member.replayed = member.current = None
        if not member.is_out:
            member.is_out = True
            _logger.warning(
                "replica %s of database %s does not answer: %s",
                member.place,
                self.name,
                _reason(error),
            )

    @contextmanager
    def noticing(self, member: Member, patience: float | None) -> Iterator[None]:
        """Leave a replica alone for a while that was waited for in vain for so many seconds.

        What ends the wait is an interruption, and one that comes sooner says nothing of it.
        """
        started = self.clock()
        try:
            yield
        except (sa_exc.DBAPIError, sa_exc.TimeoutError):
            raise
        except BaseException as error:
            if patience is not None and self.clock() - started >= patience:
                self.failed(member, error)
            raise

    def answered(self, member: Member) -> None:
        """Take note of a replica that answers."""
        member.down_until = None
        if member.is_out:
            member.is_out = False
            _logger.info("replica %s of database %s answers again", member.place, self.name)

    def after_fork(self) -> None:
        """Forget that a thread of the parent was looking, and what it was to choose next."""
        self._looking = threading.Lock()
        self.random.seed()


def _is_serializable(database: Database) -> bool:
    given = {**dict(database.engine.get("execution_options", {})), **database.engine}
    return is_serializable(given.get("isolation_level"))


def is_serializable(level: object) -> bool:
    """Return whether transactions of an isolation level cannot be read from replicas.

    A replica of PostgreSQL has none; one of MariaDB or MySQL locks nothing for them that counts.
    """
    return str(level or "").upper() == "SERIALIZABLE"


def _place(host: str | None, port: int | None) -> str:
    return f"{host}:{port}" if port else str(host or "")


def _reason(error: BaseException) -> str:
    # Of the driver's error only its kind: its text may quote what it was connected with.
    if isinstance(error, RouterError):
        return error.what
    cause = getattr(error, "orig", None)
    return type(cause if cause is not None else error).__name__
