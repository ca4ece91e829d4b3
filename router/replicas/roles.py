"""The two roles of a database's servers."""

from __future__ import annotations

from enum import Enum

from router.errors import RoutingError


class Role(Enum):
    """Which server of a database is asked."""

    PRIMARY = "primary"
    REPLICA = "replica"

    @classmethod
    def named(cls, value: object) -> Role:
        """Return the role called `value`; raise `RoutingError` if there is none."""
        if isinstance(value, Role):
            return value
        for one in cls:
            if value == one.value:
                return one
        raise RoutingError("R216", f"there is no role {str(value)[:40]!r}")


class Reading(Enum):
    """Why a statement may be sent to a replica."""

    PROVEN = "it only reads"
    DECLARED = "the caller says that it only reads"
