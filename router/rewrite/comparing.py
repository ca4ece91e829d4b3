"""Values in the form in which Python compares them as the database does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from router.rewrite.kinds import Kind

_CLASSES = {int: 1, float: 1, str: 2, bytes: 3}


def comparable(kind: Kind, *, mixed: bool) -> Callable[[Any], Any]:
    """Return the function from a value that is not NULL to one that compares as it does there.

    Values that are equal for the database are equal, and have one hash.  With `mixed`, values
    of several storage classes may meet, as they do in SQLite.
    """
    if mixed:
        return _storage_class
    return _OF_KIND.get(kind, _itself)


def number(value: Any) -> Any:
    """Return a number so that NaN equals NaN and is above all others, as on PostgreSQL."""
    return (1, 0) if value != value else (0, value)


def _itself(value: Any) -> Any:
    return value


def _storage_class(value: Any) -> Any:
    # SQLite: numbers, then text, then blobs.
    return _CLASSES[type(value)], value


def _instant(value: datetime) -> Any:
    # Two times of one zone are compared by the clock, which shows one hour twice a year.
    return value if value.tzinfo is None else value.astimezone(UTC)


def _bytes(value: Any) -> bytes:
    return bytes(value)


_OF_KIND: dict[Kind, Callable[[Any], Any]] = {
    Kind.FLOAT: number,
    Kind.DECIMAL: number,
    Kind.TIMESTAMP: _instant,
    Kind.BYTES: _bytes,
}
