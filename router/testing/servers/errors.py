"""The error of servers that cannot be had."""

from __future__ import annotations

from router.errors import RouterError


class ServerError(RouterError):
    """A server for tests or the demo cannot be had: R601, R602 or R603."""
