"""What would leave a session's partition, or pass its guard by."""

from __future__ import annotations

from collections.abc import Mapping

from router.errors import RoutingError

UNGUARDED = "unguarded"
"""The execution option of a statement that a guard lets through as it is."""


def outside_partition(what: str, pinned: Mapping[str, str]) -> RoutingError:
    """Return the error for what would leave the session's partition."""
    pins = ", ".join(f"{keyspace}/{shard}" for keyspace, shard in pinned.items())
    return RoutingError("R208", f"the session is pinned to {pins}; {what}")


def outside(what: str, fix: str = "") -> RoutingError:
    """Return the error for what a guard does not let through."""
    return RoutingError("R215", f"the session is guarded; {what}", fix=fix)
