"""Whether a call is worth a thread: by how long such calls took before."""

from __future__ import annotations

from typing import Protocol

WORTH_SECONDS = 0.001
"""Calls shorter than this are made at once; handing them over would cost more than it saves."""

_KEPT = 1000


class Pace(Protocol):
    """Decides for one database which calls go to threads."""

    def waits(self, key: str) -> bool:
        """Return whether the next call of `key` (its SQL, or a name) is worth a thread."""
        ...

    def note(self, key: str, seconds: float) -> None:
        """Learn how long a call took."""
        ...


class Measured:
    """A call goes to a thread if such calls have taken long, or have never been made.

    The estimate is half the last duration and half the estimate before it.
    """

    def __init__(self, worth: float = WORTH_SECONDS) -> None:
        self._worth = worth
        self._seconds: dict[str, float] = {}

    def waits(self, key: str) -> bool:
        """Return whether such calls are unknown or slow."""
        seconds = self._seconds.get(key)
        return seconds is None or seconds >= self._worth

    def note(self, key: str, seconds: float) -> None:
        """Move the estimate."""
        before = self._seconds.get(key)
        if before is None:
            if len(self._seconds) >= _KEPT:
                self._seconds.clear()
            before = seconds
        self._seconds[key] = (before + seconds) / 2


class Fixed:
    """All calls go to threads, or none does."""

    def __init__(self, waits: bool) -> None:
        self._waits = waits

    def waits(self, key: str) -> bool:
        """Return the answer that was given."""
        return self._waits

    def note(self, key: str, seconds: float) -> None:
        """Learn nothing."""
