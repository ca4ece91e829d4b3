"""How databases say that a branch is over: to whom prepared it, and to recovery."""

from __future__ import annotations

from sqlalchemy import exc as sa_exc

XAER_NOTA = 1397
"""MySQL and MariaDB: there is no such branch, or somebody else is at it."""

_UNDEFINED_OBJECT = "42704"
_XA_RBROLLBACK = 1402


def is_gone(error: sa_exc.DBAPIError) -> bool:
    """Return whether a database says that nothing is left of a branch.

    PostgreSQL says so of one that others have settled, MySQL and MariaDB of one that has written
    nothing.
    """
    if getattr(error.orig, "sqlstate", None) == _UNDEFINED_OBJECT:
        return True
    return code_of(error) == _XA_RBROLLBACK


def code_of(error: sa_exc.DBAPIError) -> object:
    """Return the number that MySQL or MariaDB gives an error, None for other databases' errors."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments else None
