"""What a hub waits for: sockets that become ready, jobs that end in other threads, and time."""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from selectors import EVENT_READ, EVENT_WRITE

from router.lanes.workers import Job

INTERVAL = 0.1
"""Seconds after which to look up: nothing wakes poll() when another thread interrupts this one,
or closes what is waited for.
"""

_MASKS = {
    EVENT_READ: select.POLLIN,
    EVENT_WRITE: select.POLLOUT,
    EVENT_READ | EVENT_WRITE: select.POLLIN | select.POLLOUT,
}


class Watched:
    """A socket that a lane waits for; `state` and `ready` are made of `selectors.EVENT_...`."""

    __slots__ = ("fileno", "ready", "state")

    def __init__(self, fileno: int, state: int) -> None:
        self.fileno = fileno
        self.state = state
        self.ready = 0

    def note(self, found: int) -> None:
        """Remember what poll() has found."""
        self.ready = _ready(found, self.state)


class Alarm:
    """A moment that a lane waits for."""

    __slots__ = ("due",)

    def __init__(self, due: float) -> None:
        self.due = due


Event = Job | Watched | Alarm


class Glance:
    """Looks, without waiting, what a socket is ready for; `state` as for `Watched`."""

    __slots__ = ("_poll", "_state")

    def __init__(self, fileno: int, state: int) -> None:
        self._poll = select.poll()
        self._poll.register(fileno, _MASKS[state])
        self._state = state

    def __call__(self) -> int:
        """Return what it is ready for of what is wanted, 0 if for nothing."""
        found = self._poll.poll(0)
        return _ready(found[0][1], self._state) if found else 0


def _ready(found: int, state: int) -> int:
    ready = EVENT_READ if found & select.POLLIN else 0
    if found & select.POLLOUT:
        ready |= EVENT_WRITE
    # A socket that is broken is ready for whatever it is wanted for: that raises the error.
    return ready or state


class Events:
    """Waits for sockets and jobs at once; for jobs alone, by a queue."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        # Each wait is for a few sockets and short: epoll would cost more calls than it saves.
        self._poll = select.poll()
        self._watched: dict[int, Watched] = {}
        self._alarms: set[Alarm] = set()
        self._bell: Bell | None = None

    def __len__(self) -> int:
        """Return the number of sockets and alarms."""
        return len(self._watched) + len(self._alarms)

    def put(self, job: Job) -> None:
        """Say that a job has ended; for any thread."""
        self._jobs.put(job)
        bell = self._bell
        if bell is not None:
            bell.ring()

    def watch(self, fileno: int, state: int) -> Watched:
        """Wait for a socket from now on."""
        self._poll.register(fileno, _MASKS[state])
        watched = self._watched[fileno] = Watched(fileno, state)
        return watched

    def forget(self, watched: Watched) -> None:
        """Wait for a socket no more."""
        del self._watched[watched.fileno]
        self._poll.unregister(watched.fileno)

    def wake_after(self, seconds: float) -> Alarm:
        """Wait for a moment from now on."""
        alarm = Alarm(time.monotonic() + seconds)
        self._alarms.add(alarm)
        return alarm

    def silence(self, alarm: Alarm) -> None:
        """Wait for a moment no more."""
        self._alarms.discard(alarm)

    def wait(self, seconds: float | None, *, jobs: bool) -> list[Event]:
        """Return what has ended, is ready or due; nothing if the time is over, and often before.

        Without `jobs`, none is under way.
        """
        if not self._alarms:
            return self._wait(seconds, jobs)
        left = min(alarm.due for alarm in self._alarms) - time.monotonic()
        found = self._wait(left if seconds is None else min(left, seconds), jobs)
        now = time.monotonic()
        return [*found, *(alarm for alarm in self._alarms if alarm.due <= now)]

    def _wait(self, seconds: float | None, jobs: bool) -> list[Event]:
        if seconds is not None:
            seconds = max(0.0, seconds)
        if not self._watched:
            try:
                return [self._jobs.get(timeout=seconds)]
            except Empty:
                return []
        if not jobs:
            return self._ready(seconds)
        if self._bell is None:
            self._bell = Bell()
            self._poll.register(self._bell.fileno(), select.POLLIN)
        # Those that ended before there was a bell have not rung it.
        ended = self._ended()
        return [*ended, *self._ready(0.0 if ended else seconds), *self._ended()]

    def _ended(self) -> list[Event]:
        ended: list[Event] = []
        with suppress(Empty):
            while True:
                ended.append(self._jobs.get_nowait())
        return ended

    def _ready(self, seconds: float | None) -> list[Event]:
        ready: list[Event] = []
        limit = INTERVAL if seconds is None else min(seconds, INTERVAL)
        for fileno, found in self._poll.poll(math.ceil(limit * 1000)):
            watched = self._watched.get(fileno)
            if watched is not None:
                watched.note(found)
                ready.append(watched)
            elif self._bell is not None:
                self._bell.silence()
        return ready

    def close(self) -> None:
        """Let go of the bell; jobs may end all the same."""
        if self._bell is not None:
            self._bell.close()


class Bell:
    """Wakes a thread that waits for sockets."""

    def __init__(self) -> None:
        self._ear, self._clapper = socket.socketpair()
        self._ear.setblocking(False)
        self._clapper.setblocking(False)
        # The number of a socket that is closed may be another's a moment later.
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the number of the socket that is readable after the bell has rung."""
        return self._ear.fileno()

    def ring(self) -> None:
        """Wake who waits; for any thread, also after the end."""
        with self._lock, suppress(OSError):
            self._clapper.send(b"\0")

    def silence(self) -> None:
        """Be not readable until the bell rings again."""
        with suppress(BlockingIOError):
            while self._ear.recv(1 << 12):
                pass

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            self._ear.close()
            self._clapper.close()
