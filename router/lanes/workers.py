"""Threads that wait for databases: made when needed, bounded, and never queued for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any

IDLE_SECONDS = 10.0
"""How long a thread waits for its next call before it ends."""


class Use:
    """Something that uses a connection until it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._afterwards: list[Callable[[], object]] | None = []

    def afterwards(self, action: Callable[[], object]) -> None:
        """Have `action` done when the use has ended; at once, if it has."""
        with self._lock:
            if self._afterwards is not None:
                self._afterwards.append(action)
                return
        action()

    def end(self) -> None:
        """Do what was to be done afterwards."""
        with self._lock:
            afterwards, self._afterwards = self._afterwards or [], None
        for action in afterwards:
            action()


class Job(Use):
    """One call made by another thread.

    Parameters
    ----------
    call:
        What to do; it sees the context variables of the thread that made the job.
    done:
        Is given the job when the call has ended, however it has ended.
    """

    def __init__(self, call: Callable[[], Any], done: Callable[[Job], None]) -> None:
        super().__init__()
        self._call = call
        self._context = copy_context()
        self._done = done
        self.value: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0

    def __call__(self) -> None:
        """Make the call and keep its outcome."""
        started = time.perf_counter()
        try:
            self.value = self._context.run(self._call)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the job raises it
            self.error = error
        self.seconds = time.perf_counter() - started
        self.end()
        self._done(self)

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        if self.error is None:
            return self.value
        try:
            raise self.error
        finally:
            # The traceback refers to this frame, which must not refer back.
            self.error = None


class Workers:
    """At most `limit` daemon threads.

    A job is started at once or not at all.  If jobs waited in a queue, a COMMIT could wait
    there behind statements that wait for the locks it would release.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self.forget()

    def forget(self) -> None:
        """Begin without threads: in a process that was forked, there are none."""
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        # Waiting threads that nothing was put into the queue for.
        self._idle = 0
        self._count = 0

    @property
    def count(self) -> int:
        """The number of threads."""
        return self._count

    def start(self, job: Job, *, beyond: bool = False) -> bool:
        """Start `job` and return True; False if every thread is busy.

        With `beyond`, the limit does not hold; a thread that exceeds it ends with the job.
        """
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._jobs.put(job)
                return True
            if self._count >= self._limit and not beyond:
                return False
            self._count += 1
        try:
            threading.Thread(target=self._work, args=(job,), name="router", daemon=True).start()
        except RuntimeError:
            # No threads are left, or the interpreter is shutting down.
            with self._lock:
                self._count -= 1
            return False
        return True

    def rest(self) -> None:
        """End the threads that wait for a job."""
        with self._lock:
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0

    def _work(self, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            job()
            # Not kept alive while waiting for the next one.
            del job
            job = self._next()

    def _next(self) -> Job | None:
        with self._lock:
            if self._count > self._limit:
                self._count -= 1
                return None
            self._idle += 1
        try:
            job = self._jobs.get(timeout=IDLE_SECONDS)
        except Empty:
            job = self._last_chance()
        if job is None:
            with self._lock:
                self._count -= 1
        return job

    def _last_chance(self) -> Job | None:
        with self._lock:
            try:
                return self._jobs.get_nowait()
            except Empty:
                self._idle -= 1
                return None
