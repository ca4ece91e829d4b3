"""What lanes know of the way to one database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.lanes.pace import Pace
from router.lanes.workers import Job, Workers


@dataclass(eq=False, slots=True)
class Link:
    """The threads that wait for a database, and how to stop what they wait for.

    `cancel` asks the database to stop what a driver's connection executes there; `sever`
    cuts the connection itself.  Both may be called from any thread.
    """

    workers: Workers
    pace: Pace
    cancel: Callable[[Any], None]
    sever: Callable[[Any], None]
    threaded: bool = True
    """Whether connections of the driver may be used in turn by several threads."""
    busy: dict[int, Job] = field(default_factory=dict)
    """The job that uses a driver's connection, by the id of the connection."""

    def occupy(self, connection: Any, job: Job) -> None:
        """Remember that `job` uses `connection` until it ends."""
        self.busy[id(connection)] = job
        job.afterwards(lambda: self.busy.pop(id(connection), None))

    def await_free(self, connection: Any) -> None:
        """Block until no job uses `connection`: one of a run around the run that we are in."""
        job = self.busy.get(id(connection))
        if job is not None:
            ended = threading.Event()
            job.afterwards(ended.set)
            ended.wait()

    def when_free(self, connection: Any, action: Callable[[], object]) -> None:
        """Do something to a connection as soon as no job uses it any more."""
        job = self.busy.get(id(connection))
        if job is None:
            action()
        else:
            job.afterwards(action)
