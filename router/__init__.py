"""Sharding for SQLAlchemy: one YAML map, one session, many databases."""

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
from router.session.sync import RoutingSession

__all__ = [
    "CrossShardError",
    "Router",
    "RouterError",
    "RoutingError",
    "RoutingSession",
    "ShardMapError",
    "ShardUnavailableError",
    "TransactionInDoubtError",
    "on_shard",
]
