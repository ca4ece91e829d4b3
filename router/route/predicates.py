"""What a statement says about key columns, and which keys that leaves possible.

A predicate is a tree over columns.  `possible` evaluates it against a statement's
parameters to a union of boxes: one domain for each key column.  Whatever is not
understood is `ANYTHING`, so the boxes always contain every key that can match.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from router.errors import RoutingError
from router.shardmap.functions.protocol import Bound, KeyValue

MAX_BOXES = 4096
"""Beyond this many boxes a conjunct is left out of account: more shards, never fewer."""


@dataclass(frozen=True, slots=True)
class Value:
    """Where a compared value comes from: the n-th bound parameter of the statement's shape."""

    index: int
    name: str
    others: tuple[int, ...] = ()
    """Further parameters of the same name; they must have the same value."""


Read = Callable[[Value], Any]
"""Returns the value of a parameter in one execution."""

Column = Hashable


class Comparison(Enum):
    """An inequality between a column and a value."""

    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


@dataclass(frozen=True, slots=True)
class Anything:
    """Nothing is known: every row may match."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No row can match."""


@dataclass(frozen=True, slots=True)
class Equals:
    """The column equals the value; never true when either is NULL."""

    column: Column
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """The columns, as a tuple when there are several, equal an element of the value."""

    columns: tuple[Column, ...]
    value: Value


@dataclass(frozen=True, slots=True)
class Compare:
    """The column is below or above the value."""

    column: Column
    how: Comparison
    value: Value


@dataclass(frozen=True, slots=True)
class IsNull:
    """The column is NULL."""

    column: Column


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Predicate, ...]


Predicate = Anything | Nothing | Equals | OneOf | Compare | IsNull | AllOf | AnyOf

ANYTHING = Anything()
NOTHING = Nothing()


class Null(Enum):
    """The key value of rows whose key column is NULL."""

    NULL = "NULL"


@dataclass(frozen=True, slots=True)
class Interval:
    """All non-NULL values between two bounds."""

    low: Bound | None = None
    high: Bound | None = None

    def holds(self, value: Any) -> bool:
        """Return whether `value` lies within."""
        if value is Null.NULL:
            return False
        above = self.low is None or (
            value >= self.low.value if self.low.inclusive else value > self.low.value
        )
        below = self.high is None or (
            value <= self.high.value if self.high.inclusive else value < self.high.value
        )
        return above and below


Domain = frozenset[KeyValue | Null] | Interval | None
"""The possible values of one key column; None is all of them, NULL too."""

Box = tuple[Domain, ...]
Normalise = Callable[[int, Any], KeyValue]
"""Turns a parameter into the key value of the n-th key column, or raises."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What `possible` needs of one execution: parameters, and the key columns' types.

    `bound` is `normalise` for the ends of ranges: None for a number between two keys.
    """

    read: Read
    normalise: Normalise
    bound: Callable[[int, Any], KeyValue | None]
    width: int


def substitute(predicate: Predicate, positions: Mapping[Column, int]) -> Predicate:
    """Return `predicate` over key positions; what concerns other columns is `ANYTHING`."""
    match predicate:
        case Equals(column, value):
            return Equals(positions[column], value) if column in positions else ANYTHING
        case Compare(column, how, value):
            return Compare(positions[column], how, value) if column in positions else ANYTHING
        case IsNull(column):
            return IsNull(positions[column]) if column in positions else ANYTHING
        case OneOf(columns, value):
            mapped = tuple(positions.get(column, -1) for column in columns)
            return OneOf(mapped, value) if max(mapped) >= 0 else ANYTHING
        case AllOf(parts):
            return conjunction(substitute(part, positions) for part in parts)
        case AnyOf(parts):
            return disjunction(substitute(part, positions) for part in parts)
        case _:
            return predicate


def conjunction(parts: Iterable[Predicate]) -> Predicate:
    """Return the AND of `parts`, simplified."""
    kept: list[Predicate] = []
    for part in parts:
        if isinstance(part, Nothing):
            return NOTHING
        if not isinstance(part, Anything) and part not in kept:
            kept.append(part)
    if not kept:
        return ANYTHING
    return kept[0] if len(kept) == 1 else AllOf(tuple(kept))


def disjunction(parts: Iterable[Predicate]) -> Predicate:
    """Return the OR of `parts`, simplified."""
    kept: list[Predicate] = []
    for part in parts:
        if isinstance(part, Anything):
            return ANYTHING
        if not isinstance(part, Nothing) and part not in kept:
            kept.append(part)
    if not kept:
        return NOTHING
    return kept[0] if len(kept) == 1 else AnyOf(tuple(kept))


def null_rejecting(predicate: Predicate) -> tuple[Any, ...]:
    """Return columns that are not NULL in any row for which `predicate` is true."""
    match predicate:
        case Equals(column) | Compare(column):
            return (column,)
        case OneOf(columns):
            return tuple(column for column in columns if column is not None)
        case AllOf(parts):
            return tuple(column for part in parts for column in null_rejecting(part))
        case _:
            return ()


def possible(predicate: Predicate, reader: Reader) -> list[Box]:
    """Return boxes that together contain every key for which `predicate` can be true."""
    match predicate:
        case Nothing():
            return []
        case Equals(int(position), value):
            return _values_box(reader, position, (reader.read(value),))
        case OneOf(positions, value):
            return _one_of(reader, positions, reader.read(value))
        case Compare(int(position), how, value):
            return _compare_box(reader, position, how, reader.read(value))
        case IsNull(int(position)):
            return [_box(reader.width, {position: frozenset((Null.NULL,))})]
        case AllOf(parts):
            return _all_of(parts, reader)
        case AnyOf(parts):
            return [box for part in parts for box in possible(part, reader)]
        case _:
            return [_box(reader.width, {})]


def _all_of(parts: Sequence[Predicate], reader: Reader) -> list[Box]:
    boxes = [_box(reader.width, {})]
    for part in parts:
        others = possible(part, reader)
        if len(boxes) * len(others) > MAX_BOXES:
            continue
        met = (_meet_boxes(left, right) for left in boxes for right in others)
        boxes = [box for box in met if box is not None]
    return boxes


def _box(width: int, domains: Mapping[int, Domain]) -> Box:
    return tuple(domains.get(position) for position in range(width))


def _values_box(reader: Reader, position: int, values: Iterable[Any]) -> list[Box]:
    # A comparison with NULL is never true, so NULLs among the values match no row.
    found = frozenset(reader.normalise(position, value) for value in values if value is not None)
    return [_box(reader.width, {position: found})] if found else []


def _one_of(reader: Reader, positions: Sequence[Any], given: Any) -> list[Box]:
    values = members(given)
    if len(positions) == 1:
        return _values_box(reader, positions[0], (scalar(value) for value in values))
    rows = [row for row in (members(value) for value in values) if None not in row]
    if len(rows) > MAX_BOXES:
        return [_box(reader.width, {})]
    return [_box(reader.width, _row_domains(reader, positions, row)) for row in rows]


def _row_domains(
    reader: Reader, positions: Sequence[int], row: Sequence[Any]
) -> Mapping[int, Domain]:
    if len(row) != len(positions):
        what = f"IN compares {len(positions)} columns with {len(row)} values"
        raise RoutingError("R204", what)
    pairs = [(at, item) for at, item in zip(positions, row, strict=True) if at >= 0]
    return {at: frozenset((reader.normalise(at, item),)) for at, item in pairs}


def members(value: Any) -> Sequence[Any]:
    """Return the members of a list that can be gone through twice; raise for all else."""
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise RoutingError("R204", f"IN takes a list of keys, not {type(value).__name__}")
    return tuple(value)


def scalar(value: Any) -> Any:
    """Return the only element of a one-column row, or `value` itself."""
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


def _compare_box(reader: Reader, position: int, how: Comparison, value: Any) -> list[Box]:
    if value is None:
        return []
    end = reader.bound(position, value)
    if end is None:
        return [_box(reader.width, {})]
    bound = Bound(end, how in (Comparison.LE, Comparison.GE))
    below = how in (Comparison.LT, Comparison.LE)
    interval = Interval(high=bound) if below else Interval(low=bound)
    return [_box(reader.width, {position: interval})]


def _meet_boxes(left: Box, right: Box) -> Box | None:
    domains = tuple(_meet(a, b) for a, b in zip(left, right, strict=True))
    empty = any(isinstance(domain, frozenset) and not domain for domain in domains)
    return None if empty else domains


def _meet(left: Domain, right: Domain) -> Domain:
    if left is None or right is None:
        return left if right is None else right
    if isinstance(left, frozenset):
        if isinstance(right, frozenset):
            return left & right
        return frozenset(value for value in left if right.holds(value))
    if isinstance(right, frozenset):
        return _meet(right, left)
    return Interval(_tighter(left.low, right.low, lower=True), _tighter(left.high, right.high))


def _tighter(left: Bound | None, right: Bound | None, *, lower: bool = False) -> Bound | None:
    if left is None or right is None:
        return left if right is None else right
    if left.value == right.value:
        return right if left.inclusive else left
    a, b = left.value, right.value
    return left if (a > b) == lower else right  # type: ignore[operator]
