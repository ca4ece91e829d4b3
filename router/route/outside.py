"""What would leave a session's partition."""

from __future__ import annotations

from collections.abc import Mapping

from router.errors import RoutingError


def outside_partition(what: str, pinned: Mapping[str, str]) -> RoutingError:
    """Return the error for what would leave the session's partition."""
    pins = ", ".join(f"{keyspace}/{shard}" for keyspace, shard in pinned.items())
    return RoutingError("R208", f"the session is pinned to {pins}; {what}")
