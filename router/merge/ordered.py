"""Rows in the order of the database: keys that Python compares as it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any

from router.rewrite.comparing import comparable
from router.rewrite.ordering import SortKey

Row = tuple[Any, ...]
Rank = Callable[[Any], Any]


def in_order(shards: Sequence[Iterator[Row]], keys: Sequence[SortKey]) -> Iterator[Row]:
    """Merge sorted rows; where keys are equal, rows of earlier shards go first."""
    return merge(*shards, key=row_key(keys))


def row_key(keys: Sequence[SortKey]) -> Callable[[Row], Any]:
    """Return the function from a row to what it is sorted by."""
    parts = [(itemgetter(key.position), _rank(key)) for key in keys]
    if len(parts) == 1:
        ((get, rank),) = parts
        return lambda row: rank(get(row))
    return lambda row: tuple(rank(get(row)) for get, rank in parts)


def _rank(key: SortKey) -> Rank:
    """Return the function from a value to what it is compared by: NULL has a rank of its own."""
    null = (0,) if key.nulls_first else (2,)
    value = comparable(key.kind, mixed=key.mixed)
    if key.descending:
        return lambda one: null if one is None else (1, _Descending(value(one)))
    return lambda one: null if one is None else (1, value(one))


class _Descending:
    """Compares the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]
