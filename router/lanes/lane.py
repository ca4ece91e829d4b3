"""One of several calls that go on side by side: a greenlet on the caller's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

from router.lanes.link import Drive, Driven, Link
from router.lanes.workers import Job

if TYPE_CHECKING:
    from router.lanes.hub import Hub

MOST_IDLE = 64
"""How many lanes a thread keeps for other calls."""

_FAILED = "another shard has failed"


class AbandonedError(Exception):
    """Raised in a lane that would go on after another one has failed."""


class LostError(BaseException):
    """Raised in a lane whose driver does not come back; its connection cannot be used again.

    Not an `Exception`, by which SQLAlchemy knows that it must not reuse the connection.
    """


class Lane(greenlet):
    """Runs a call; other lanes go on while its driver calls wait.

    A greenlet costs many times what it costs to switch to one.  So lanes are made with `lane_of`,
    and can be used again once they have been let go.
    """

    hub: Hub
    _call: Callable[[], Any]

    def begin(self, hub: Hub, call: Callable[[], Any]) -> None:
        """Get ready for a call."""
        self.hub = hub
        self._call = call
        self.parent = hub.home
        # Context variables are those of the caller, also when the lane sets one.
        self.gr_context = hub.home.gr_context
        self._alone = 0
        self.value: Any = None
        self.failure: BaseException | None = None
        self.is_under_way = self.has_ended = False

    def make(self) -> bool:
        """Make the call; return whether the lane can make another one."""
        self.is_under_way = True
        try:
            self.value = self._call()
        except BaseException as error:  # noqa: BLE001 - the hub raises it
            self.failure = error
            self.hub.has_failed = True
        self.is_under_way, self.has_ended = False, True
        # That ends greenlets that nobody holds any more; they must not go on.
        return not isinstance(self.failure, GreenletExit)

    def end(self) -> None:
        """Let go of the call, and of all that came of it."""
        del self.hub, self._call, self.value, self.failure
        self.gr_context = None
        self.parent = _idle.root

    def wait(
        self,
        call: Callable[[], Any],
        link: Link,
        key: str,
        *,
        connection: Any = None,
        cleans: bool = False,
        undo: Callable[[Any], object] | None = None,
    ) -> Any:
        """Make a driver call, and let other lanes go on meanwhile; return what it returns.

        It is made in the lane, if the driver can wait there, or in a thread, if it is worth one.

        Parameters
        ----------
        key:
            What `Pace` tells calls apart by.
        connection:
            The driver's connection, which only one call may use at a time.
        cleans:
            The call ends something, so it is made even after another lane has failed.
        undo:
            What to do with the call's value if nobody waits for it any more.
        """
        if connection is None:
            return self._wait(call, link, key, None, cleans, undo)
        with self.hold(connection):
            return self._wait(call, link, key, connection, cleans, undo)

    def sleep(self, seconds: float) -> None:
        """Wait for a moment, and let other lanes go on meanwhile."""
        if self.hub.stopped:
            raise AbandonedError(_FAILED)
        if self._alone:
            time.sleep(seconds)
        else:
            self.hub.sleep(self, seconds)

    def _wait(
        self,
        call: Callable[[], Any],
        link: Link,
        key: str,
        connection: Any,
        cleans: bool,
        undo: Callable[[Any], object] | None,
    ) -> Any:
        hub = self.hub
        if connection is not None and link.driver_of(connection) is self:
            # Part of a call that is under way: some dialects commit two phases by `do_commit`.
            return call()
        if connection is not None:
            self._let_drive(link, connection)
        if hub.stopped:
            if cleans:
                return call()
            raise AbandonedError(_FAILED)
        if self._alone or not link.threaded:
            return self._at_once(call, link, key, connection)
        if link.drive is not None and connection is not None:
            return self._drive(call, link, connection, link.drive)
        limited = hub.deadline is not None
        if not (limited or link.pace.waits(key)):
            return self._at_once(call, link, key, connection)
        job = Job(call, hub.events.put)
        if connection is not None:
            link.await_free(connection)
            link.occupy(connection, job)
        if not link.workers.start(job, beyond=limited):
            link.busy.pop(id(connection), None)
            return self._at_once(call, link, key, connection)
        hub.wait(job, self, link, connection, undo)
        link.pace.note(key, job.seconds)
        return job.result()

    def _let_drive(self, link: Link, connection: Any) -> None:
        """Wait until no lane of a run around the run that we are in uses `connection`."""
        while (lane := link.driver_of(connection)) is not None:
            # It goes on with its hub, in which we wait as if we were one of its lanes.
            if lane.hub.stopped:
                raise AbandonedError(_FAILED)
            lane.hub.pause(self)

    def _drive(self, call: Callable[[], Any], link: Link, connection: Any, drive: Drive) -> Any:
        use = Driven(self)
        link.occupy(connection, use)
        try:
            return drive(connection, call, partial(self.hub.until_ready, self, link, connection))
        finally:
            use.end()

    def _at_once(self, call: Callable[[], Any], link: Link, key: str, connection: Any) -> Any:
        deadline = self.hub.deadline
        started = time.perf_counter()
        try:
            if deadline is None or connection is None or link.threaded:
                return call()
            with _limited(deadline, lambda: link.cancel(connection)):
                return call()
        except Exception as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise self.hub.late(self) from error
            raise
        finally:
            link.pace.note(key, time.perf_counter() - started)

    @contextmanager
    def hold(self, thing: object) -> Iterator[None]:
        """Keep other lanes away from `thing` while the context lasts."""
        holders = self.hub.holders
        key = id(thing)
        mine = holders.get(key) is not self
        while mine and key in holders:
            if self.hub.stopped:
                raise AbandonedError(_FAILED)
            self.hub.pause(self)
        if mine:
            holders[key] = self
        try:
            yield
        finally:
            if mine:
                del holders[key]
                self.hub.wake()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other lane go on while the context lasts."""
        self._alone += 1
        try:
            yield
        finally:
            self._alone -= 1


@contextmanager
def _limited(deadline: float, cancel: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _make_calls() -> None:
    """Make one call after the other.

    Between them, nothing here refers to the lane: it ends when nobody else does.
    """
    while True:
        lane: Any = getcurrent()
        if not lane.make():
            return
        home = lane.hub.home
        del lane
        home.switch()
        del home


class _Idle(threading.local):
    """The lanes of a thread that have nothing to do."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        root = getcurrent()
        while root.parent is not None:
            root = root.parent
        self.root = root


_idle = _Idle()


def lane_of(hub: Hub, call: Callable[[], Any]) -> Lane:
    """Return a lane that will make a call for `hub`."""
    lane = _idle.lanes.pop() if _idle.lanes else Lane(_make_calls)
    lane.begin(hub, call)
    return lane


def let_go(lanes: Sequence[Lane]) -> None:
    """Keep lanes that have ended for other calls; the others are left as they are."""
    for lane in lanes:
        if lane.has_ended and not lane.dead:
            lane.end()
            if len(_idle.lanes) < MOST_IDLE:
                _idle.lanes.append(lane)


def current_lane() -> Lane | None:
    """Return the lane in which this is called, or None."""
    current = getcurrent()
    return current if type(current) is Lane else None
