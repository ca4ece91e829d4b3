"""Recovery for the databases of a map, when asked for and in the background."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from router.errors import RoutingError
from router.transaction.cleaning import clean
from router.transaction.fence import PATIENCE_SECONDS
from router.transaction.names import age_of, is_gtid
from router.transaction.protocol import GRACE_SECONDS, KEEP_SECONDS, Outcome
from router.transaction.recovery import Recovered, Recovery, Survey, look

if TYPE_CHECKING:
    from router.session.wiring import Wiring

SHORTEST_KEEP_SECONDS = 2 * PATIENCE_SECONDS

_logger = logging.getLogger("router.transaction")


def recover(wiring: Wiring, grace: float, keep: float) -> list[Recovered]:
    """Settle what is in doubt, and delete from the logs what has served."""
    done = _recovery(wiring).recover(grace)
    # A coordinator that has lost its decider's answer may still be asking.
    clean(wiring.engines, max(keep, SHORTEST_KEEP_SECONDS))
    return done


def survey(wiring: Wiring) -> Survey:
    """Return what is in doubt; nothing is changed."""
    return look(wiring.engines)


def outcome(wiring: Wiring, gtid: str) -> Outcome:
    """Return how a transaction has ended.

    Raises
    ------
    RoutingError
        This is no transaction's name, or of one too old to be known.
    """
    if not is_gtid(gtid):
        raise RoutingError("R412", f"{gtid!r} is not the name of a transaction")
    if age_of(gtid) > KEEP_SECONDS:
        raise RoutingError("R412", f"transaction {gtid} is older than what is kept of verdicts")
    return _recovery(wiring).outcome(gtid)


def _recovery(wiring: Wiring) -> Recovery:
    return Recovery(wiring.engines, time.sleep)


class Watch:
    """A daemon thread that recovers every so many seconds, as long as its wiring is in use.

    Parameters
    ----------
    wiring:
        The databases.
    seconds:
        The time from one recovery to the next.
    """

    def __init__(self, wiring: Wiring, seconds: float) -> None:
        self._wiring = weakref.ref(wiring)
        self._seconds = seconds
        self._stop = threading.Event()
        self._pid = os.getpid()
        threading.Thread(target=self._run, name="router-recovery", daemon=True).start()

    def stop(self) -> None:
        """End the thread when it has finished what it does."""
        self._stop.set()

    @property
    def is_running(self) -> bool:
        """Whether there is a thread, in this process."""
        return not self._stop.is_set() and self._pid == os.getpid()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            wiring = self._wiring()
            if wiring is None:
                return
            try:
                self._recover(wiring)
            except Exception:
                _logger.exception("recovery failed; it goes on in %s s", self._seconds)
            if self._stop.is_set():
                # What it has opened since the engines were disposed of.
                wiring.engines.dispose()
            del wiring

    def _recover(self, wiring: Wiring) -> None:
        left = [one for one in recover(wiring, GRACE_SECONDS, KEEP_SECONDS) if one.is_open]
        for one in left:
            _logger.warning("in doubt: %s in %s: %s", one.gtid, one.database, one.action.value)
