"""What rewriting knows besides the statement, and the way it says no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement


class TextOrder(Enum):
    """How the shards compare text."""

    CODE_POINTS = "by code points, as Python does"
    OTHER = "by rules that only the database knows"


class Family(Enum):
    """The kinds of databases, as far as their values and functions are concerned."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    SQLITE = "sqlite"


@dataclass(frozen=True, slots=True)
class Terms:
    """What rewriting needs to know besides the statement.

    Parameters
    ----------
    family:
        The dialect of the shards; MariaDB is of the family of MySQL.
    text_order:
        How the shards compare text of no explicit collation.
    holds_key:
        Whether a list of expressions contains the shard key of the statement's tables, so
        that rows of two shards always differ in it.
    """

    family: Family
    text_order: TextOrder
    holds_key: Callable[[Sequence[ColumnElement[Any]]], bool]

    @classmethod
    def of(
        cls,
        dialect: str,
        text_order: TextOrder,
        holds_key: Callable[[Sequence[ColumnElement[Any]]], bool],
    ) -> Terms:
        """Return the terms for shards of the dialect of that name."""
        return cls(Family("mysql" if dialect == "mariadb" else dialect), text_order, holds_key)


@dataclass(frozen=True, slots=True)
class Undecomposable:
    """Why a statement cannot be merged exactly from what it gives on every shard."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class InexactError(Exception):
    """A part of the statement cannot be merged exactly; the message says which."""
