"""Lets lanes take turns: each goes on when what its driver call waits for is there.

Only driver calls overlap.  Everything else, the session above all, is touched by one lane at
a time on one thread, and a lane gives way only where it waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from greenlet import getcurrent

from router.lanes.events import Event, Events
from router.lanes.lane import (
    AbandonedError,
    Lane,
    LostError,
    current_lane,
    lane_of,
    let_go,
)
from router.lanes.link import Link
from router.lanes.workers import Job

CANCEL_SECONDS = 5.0
"""How long a database may take to stop a statement before its connection is cut."""

SEVER_SECONDS = 1.0
"""How long a driver may take to notice that before it is left alone."""


class OutOfTimeError(Exception):
    """The time is over; `lanes` are the positions of the calls that have not ended."""

    def __init__(self, lanes: Sequence[int]) -> None:
        super().__init__("no answer in time")
        self.lanes = lanes


class _Wait(NamedTuple):
    """What a lane waits for."""

    lane: Lane | None
    link: Link | None
    connection: Any
    undo: Callable[[Any], object] | None


class Hub:
    """Makes several calls side by side, once.

    Parameters
    ----------
    calls:
        What to do; each is a lane of its own.
    seconds:
        The time all of it may take.
    """

    def __init__(self, calls: Sequence[Callable[[], Any]], seconds: float | None = None) -> None:
        self.home = getcurrent()
        self.events = Events()
        self.holders: dict[int, Lane] = {}
        self.stopped = False
        self.has_failed = False
        self.deadline = _deadline(seconds)
        self._lost = False
        self._waiting: dict[Event, _Wait] = {}
        self._paused: deque[Lane] = deque()
        self._ready: deque[Lane] = deque()
        self._lanes = [lane_of(self, call) for call in calls]

    # -- called by lanes -------------------------------------------------------------------

    def wait(
        self,
        job: Job,
        lane: Lane,
        link: Link,
        connection: Any,
        undo: Callable[[Any], object] | None,
    ) -> None:
        """Let other lanes go on until `job` has ended."""
        self._waiting[job] = _Wait(lane, link, connection, undo)
        try:
            self.home.switch()
        finally:
            self._waiting.pop(job, None)

    def until_ready(self, lane: Lane, link: Link, connection: Any, fileno: int, state: int) -> int:
        """Let other lanes go on until a socket is ready for `state`; return what it is ready for.

        Both are made of `selectors.EVENT_READ` and `EVENT_WRITE`.
        """
        if self._lost:
            raise LostError
        watched = self.events.watch(fileno, state)
        self._waiting[watched] = _Wait(lane, link, connection, None)
        try:
            self.home.switch()
            return watched.ready
        finally:
            del self._waiting[watched]
            self.events.forget(watched)

    def sleep(self, lane: Lane, seconds: float) -> None:
        """Let other lanes go on for a moment, the end of which a stop waits for."""
        alarm = self.events.wake_after(seconds)
        self._waiting[alarm] = _Wait(lane, None, None, None)
        try:
            self.home.switch()
        finally:
            self._waiting.pop(alarm, None)
            self.events.silence(alarm)

    def pause(self, lane: Lane) -> None:
        """Let other lanes go on until something is free that was held."""
        self._paused.append(lane)
        self.home.switch()

    def wake(self) -> None:
        """Let the lanes go on that wait for something that was held."""
        if self.stopped:
            return
        self._ready.extend(self._paused)
        self._paused.clear()

    def late(self, lane: Lane) -> OutOfTimeError:
        """Return the error of a lane that has noticed itself that its time is over."""
        return OutOfTimeError([self._lanes.index(lane)])

    # -- called by the caller --------------------------------------------------------------

    def run(self) -> list[Any]:
        """Make the calls; return what they return, in their order.

        When one fails, the others are stopped.  Its error is raised once none of them uses
        a connection any more.
        """
        self._run(raises=True)
        values = [lane.value for lane in self._lanes]
        self._let_go()
        return values

    def finish(self) -> list[BaseException | None]:
        """Make all the calls, also when some fail; return the error of each, or None."""
        self._run(raises=False)
        failures = [lane.failure for lane in self._lanes]
        self._let_go()
        return failures

    def _run(self, raises: bool) -> None:
        self._ready.extend(self._lanes)
        try:
            while self._ready or self._waiting:
                if not self._ready:
                    self._await(self.deadline)
                    continue
                self._ready.popleft().switch()
                # Not always the lane that went on: it may be one of a run inside one of ours.
                if raises and self.has_failed:
                    raise next(lane.failure for lane in self._lanes if lane.failure is not None)
        except BaseException:
            try:
                self._stop()
            finally:
                self._let_go()
            raise
        finally:
            self.events.close()

    def _let_go(self) -> None:
        lanes, self._lanes = self._lanes, []
        let_go(lanes)

    def _await(self, deadline: float | None) -> None:
        """Wait until something has ended or is ready, and let those go on who wait for it."""
        left = None if deadline is None else deadline - time.monotonic()
        ended = self.events.wait(left, jobs=len(self._waiting) > len(self.events))
        if not ended and deadline is not None and time.monotonic() >= deadline:
            late = [at for at, lane in enumerate(self._lanes) if not lane.has_ended]
            raise OutOfTimeError(late)
        for one in ended:
            found = self._waiting.get(one)
            if found is not None and found.lane is not None:
                self._ready.append(found.lane)
            elif found is not None:
                del self._waiting[one]

    # -- when something has failed ---------------------------------------------------------

    def _stop(self) -> None:
        self.stopped = True
        # The others have never begun.
        under_way = [lane for lane in (*self._ready, *self._paused) if lane.is_under_way]
        self._paused.clear()
        self._ready = deque(under_way)
        try:
            # What these were waiting for is there: there may be nothing to cancel.
            self._go_on()
            self._cancel()
            self._settle(CANCEL_SECONDS)
            for found in self._waiting.values():
                if found.lane is not None and found.link is not None:
                    found.link.sever(found.connection)
            self._settle(SEVER_SECONDS)
        finally:
            # Nothing is left unless the driver hangs, or we were interrupted once more.
            self._lost = True
            for found in list(self._waiting.values()):
                if found.lane is not None:
                    found.lane.throw(LostError())

    def _cancel(self) -> None:
        for job, found in list(self._waiting.items()):
            if found.link is not None and found.connection is not None:
                self._ask_to_cancel(found.link, found.connection)
            elif found.lane is not None and isinstance(job, Job):
                # Somebody is connecting: that can be left to itself.
                del self._waiting[job]
                job.afterwards(partial(_undo, job, found.undo))
                found.lane.throw(AbandonedError("another shard has failed"))

    def _ask_to_cancel(self, link: Link, connection: Any) -> None:
        job = Job(lambda: link.cancel(connection), self.events.put)
        # Waited for, so that it cannot hit a later statement of the connection.
        self._waiting[job] = _Wait(None, link, None, None)
        if not link.workers.start(job, beyond=True):
            job()

    def _settle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._waiting:
            try:
                self._await(deadline)
            except OutOfTimeError:
                return
            self._go_on()

    def _go_on(self) -> None:
        while self._ready:
            self._ready.popleft().switch()


def _undo(job: Job, undo: Callable[[Any], object] | None) -> None:
    if undo is not None and job.error is None:
        undo(job.value)


def _deadline(seconds: float | None) -> float | None:
    """Return the time at which `seconds` are over, or those of the lane we are in."""
    outer = current_lane()
    given = None if seconds is None else time.monotonic() + seconds
    inherited = outer.hub.deadline if outer is not None else None
    known = [one for one in (given, inherited) if one is not None]
    return min(known) if known else None
