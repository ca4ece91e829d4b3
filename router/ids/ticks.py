"""A clock that never stands still and never goes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from router.ids.forks import forget_on_fork

Now = Callable[[], int]
"""Returns the time in milliseconds since 1970."""


def wall_clock() -> int:
    """Return the milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Ticks:
    """Gives pairs of a millisecond and a number within it, each greater than the one before.

    Where the system's clock stands still or goes back, counting goes on from the last pair; when
    the numbers of a millisecond are used up, in the next one, ahead of the clock.  So nothing is
    waited for, and no pair comes twice.

    Parameters
    ----------
    per_millisecond:
        How many numbers a millisecond has.
    now:
        The clock.
    """

    def __init__(self, per_millisecond: int, now: Now = wall_clock) -> None:
        self._size = per_millisecond
        self._now = now
        self._last = (0, per_millisecond - 1)
        self._lock = Lock()
        forget_on_fork(self)

    def forget(self) -> None:
        """Go on counting in a forked child, where no other thread holds the lock."""
        self._lock = Lock()

    def next(self, not_before: int = 0) -> tuple[int, int]:
        """Return the next pair, whose millisecond is `not_before` or later."""
        with self._lock:
            millisecond, number = self._last
            now = max(self._now(), not_before)
            if now > millisecond:
                found = (now, 0)
            elif number + 1 < self._size:
                found = (millisecond, number + 1)
            else:
                found = (millisecond + 1, 0)
            self._last = found
            return found
