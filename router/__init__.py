"""Sharding for SQLAlchemy: one YAML map, one session, many databases."""

from typing import TYPE_CHECKING, Any

from router.errors import (
    CrossShardError,
    RouterError,
    RoutingError,
    ShardMapError,
    ShardUnavailableError,
    TransactionInDoubtError,
)
from router.router import Router
from router.session.hints import on_shard
from router.session.retrying import retry
from router.session.sync import RoutingSession
from router.transaction.protocol import Outcome

if TYPE_CHECKING:
    from router.session.aio import AsyncRoutingSession

__all__ = [
    "AsyncRoutingSession",
    "CrossShardError",
    "Outcome",
    "Router",
    "RouterError",
    "RoutingError",
    "RoutingSession",
    "ShardMapError",
    "ShardUnavailableError",
    "TransactionInDoubtError",
    "on_shard",
    "retry",
]


def __getattr__(name: str) -> Any:
    # SQLAlchemy's asyncio extension is loaded for those who use it.
    if name == "AsyncRoutingSession":
        from router.session.aio import AsyncRoutingSession

        return AsyncRoutingSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
