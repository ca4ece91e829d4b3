"""What lanes know of the way to one database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from router.lanes.pace import Pace
from router.lanes.workers import Use, Workers

if TYPE_CHECKING:
    from router.lanes.lane import Lane

Drive = Callable[[Any, Callable[[], Any], Callable[[int, int], int]], Any]


class Driven(Use):
    """A driver call that is made in a lane, which lets others go on while it waits."""

    def __init__(self, lane: Lane) -> None:
        super().__init__()
        self.lane = lane


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
    drive: Drive | None = None
    """Makes a call of a driver's connection in the lane, without a thread.

    It is given the connection, the call, and what waits until a socket is ready: a function of
    the socket's number and of what it has to be ready for, in terms of `selectors`.
    """
    busy: dict[int, Use] = field(default_factory=dict)
    """What uses a driver's connection, by the id of the connection."""

    def occupy(self, connection: Any, use: Use) -> None:
        """Remember that `use` is made of `connection` until it ends."""
        self.busy[id(connection)] = use
        use.afterwards(lambda: self.busy.pop(id(connection), None))

    def driver_of(self, connection: Any) -> Lane | None:
        """Return the lane that makes a call of `connection` without a thread, if one does."""
        use = self.busy.get(id(connection))
        return use.lane if isinstance(use, Driven) else None

    def await_free(self, connection: Any) -> None:
        """Block until no job uses `connection`: one of a run around the run that we are in."""
        use = self.busy.get(id(connection))
        if use is not None:
            ended = threading.Event()
            use.afterwards(ended.set)
            ended.wait()

    def when_free(self, connection: Any, action: Callable[[], object]) -> None:
        """Do something to a connection as soon as it is not used any more."""
        use = self.busy.get(id(connection))
        if use is None:
            action()
        else:
            use.afterwards(action)
