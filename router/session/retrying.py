"""Doing a whole transaction again when a database says that only then it may succeed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from router.errors import CrossShardError

T = TypeVar("T")

_STATES = frozenset({"40001", "40P01"})
"""SQLSTATE of a serialization failure and of a deadlock."""

_IDS = frozenset({"R312", "R404"})
"""Errors of ours: rows that others changed meanwhile, and a deadlock over several databases."""

_NUMBERS = frozenset({1205, 1213})
"""What MySQL and MariaDB call a lock that was waited for too long, and a deadlock."""


def retry(
    make: Callable[[], Session],
    work: Callable[[Any], T],
    *,
    attempts: int = 3,
    pause: float = 0.05,
) -> T:
    """Do `work` in a session of its own, commit, and return what it returned.

    What fails because of a deadlock, a serialization failure or a connection lost before the
    commit is done again from the start, in a new session.  An error of the commit itself is
    raised, unless one database alone was written and says that it has rolled back.

    Parameters
    ----------
    make:
        Makes sessions, as ``router.sessionmaker()`` does.
    work:
        Called with a session; must not commit, and must not keep objects of a failed attempt.
    attempts:
        How often to try at most.
    pause:
        Seconds before the second attempt, about twice as many before each further one.
    """
    for attempt in range(1, attempts):
        try:
            return _attempt(make, work)
        except (DBAPIError, CrossShardError) as error:
            if not is_retryable(error):
                raise
        time.sleep(pause * 2 ** (attempt - 1) * (0.5 + random.random()))  # noqa: S311
    return _attempt(make, work)


def is_retryable(error: BaseException) -> bool:
    """Return whether the transaction that met `error` may succeed when it is done again."""
    if getattr(error, "router_committing", False):
        return False
    if getattr(error, "connection_invalidated", False) or getattr(error, "id", "") in _IDS:
        return True
    cause = getattr(error, "orig", None)
    if getattr(cause, "sqlstate", None) in _STATES:
        return True
    arguments: tuple[Any, ...] = getattr(cause, "args", ())
    if "database is locked" in str(arguments[:1]):
        return True
    return bool(arguments) and arguments[0] in _NUMBERS


def _attempt(make: Callable[[], Session], work: Callable[[Any], T]) -> T:
    with make() as session:
        found = work(session)
        session.flush()
        wrote = getattr(session.get_transaction(), "wrote", ())
        try:
            session.commit()
        except (DBAPIError, CrossShardError) as error:
            lost = bool(getattr(error, "connection_invalidated", False))
            # Others may have committed, or the one whose answer was lost.
            error.__dict__["router_committing"] = lost or len(wrote) > 1
            raise
        return found
