"""Which rows of decision logs have served and can go: remembered by one process, for a while."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

AT_ONCE = 100
"""How many rows are deleted together."""


class Journal:
    """Transactions that every participant has acknowledged, by decider.

    What a process that ends has not deleted is left for recovery.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._served: dict[str, list[str]] = {}
        self._lock = Lock()

    def served(self, decider: str, gtid: str) -> None:
        """Remember that every participant of a transaction has acknowledged."""
        with self._lock:
            self._served.setdefault(decider, []).append(gtid)

    def take(self, decider: str) -> Sequence[str]:
        """Return transactions whose rows are to be deleted now, if there are enough."""
        if len(self._served.get(decider, ())) < self._at_once:
            return ()
        return self.take_all(decider)

    def take_all(self, decider: str) -> Sequence[str]:
        """Return all transactions whose rows can be deleted."""
        with self._lock:
            return self._served.pop(decider, [])
