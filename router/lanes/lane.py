"""One of several calls that go on side by side: a greenlet on the caller's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from router.lanes.workers import Job

if TYPE_CHECKING:
    from router.lanes.hub import Hub
    from router.lanes.link import Link

_FAILED = "another shard has failed"


class AbandonedError(Exception):
    """Raised in a lane that would go on after another one has failed."""


class LostError(BaseException):
    """Raised in a lane whose driver does not come back; its connection cannot be used again.

    Not an `Exception`, by which SQLAlchemy knows that it must not reuse the connection.
    """


class Lane(greenlet):
    """Runs `call`; its driver calls are made by threads, while other lanes go on."""

    def __init__(self, hub: Hub, call: Callable[[], Any]) -> None:
        super().__init__(parent=hub.home)
        # Context variables are those of the caller, also when the lane sets one.
        self.gr_context = hub.home.gr_context
        self.hub = hub
        self._call = call
        self._alone = 0
        self.value: Any = None
        self.failure: BaseException | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether the lane has begun and not ended."""
        return bool(self.gr_frame is not None)

    def run(self) -> None:
        """Make the call."""
        try:
            self.value = self._call()
        except BaseException as error:  # noqa: BLE001 - the hub raises it
            self.failure = error

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
        """Make a driver call, in a thread if it is worth one; return what it returns.

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
        if hub.stopped:
            if cleans:
                return call()
            raise AbandonedError(_FAILED)
        limited = hub.deadline is not None
        if self._alone or not link.threaded or not (limited or link.pace.waits(key)):
            return self._at_once(call, link, key, connection)
        job = Job(call, hub.done.put)
        if connection is not None:
            link.await_free(connection)
            link.occupy(connection, job)
        if not link.workers.start(job, beyond=limited):
            link.busy.pop(id(connection), None)
            return self._at_once(call, link, key, connection)
        hub.wait(job, self, link, connection, undo)
        link.pace.note(key, job.seconds)
        return job.result()

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


def current_lane() -> Lane | None:
    """Return the lane in which this is called, or None."""
    current = getcurrent()
    return current if type(current) is Lane else None
