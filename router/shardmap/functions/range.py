"""``range``: neighbouring keys share a shard; the upper bound of each range is exclusive.

Text is compared by code points here, and by a collation in the database.  So a text
key still has exactly one shard, but ranges of text keys in a statement are not pruned:
the database may place a string between two others where code points do not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import Field

from router.shardmap.findings import suggestion
from router.shardmap.functions.building import Complaint, OptionsError, Site, single_column
from router.shardmap.functions.protocol import Bound, Key, KeyValue, NoShardError
from router.shardmap.keys import KeyKind, KeyValueError, family_of, normalise
from router.shardmap.keytypes import KeyType
from router.shardmap.strict import Name, Scalar, Strict, parse_options

_ORDERED = frozenset(
    {KeyKind.INTEGER, KeyKind.DECIMAL, KeyKind.TEXT, KeyKind.DATE, KeyKind.TIMESTAMP}
)


class RangeItem(Strict):
    """The keys from the end of the range before to `to`, which is not included."""

    to: Scalar | None = None
    shard: Name


class RangeOptions(Strict):
    """Options of `range`."""

    ranges: list[RangeItem] = Field(
        min_length=1, description="in ascending order; only the last may have no `to`"
    )


@dataclass(frozen=True, slots=True)
class RangeFunction:
    """Maps a key to ``shards[i]``, where i is the number of `bounds` that are <= key.

    There is one shard more than bounds if the last range is open.
    """

    bounds: tuple[Any, ...]
    shards: tuple[str, ...]

    def shard_of(self, key: Key) -> str:
        """Return the shard of the range that the key is in.

        Raises
        ------
        NoShardError
            If the key is not below the last bound.
        KeyValueError
            If the key does not compare with the bounds.
        """
        index = self._index(key[0], bisect_right)
        if index == len(self.shards):
            raise NoShardError(f"{key[0]!r} is beyond the last range, which ends at {self._end()}")
        return self.shards[index]

    def shards_between(self, low: Bound | None, high: Bound | None) -> frozenset[str]:
        """Return the shards of the ranges that the interval meets; all of them for text.

        Raises
        ------
        KeyValueError
            If a bound does not compare with those of the ranges.
        """
        first = self._index(low.value, bisect_right) if low else 0
        last = self._last(high) if high else len(self.shards) - 1
        if self.bounds and isinstance(self.bounds[0], str):
            return frozenset(self.shards)
        if low and high and _is_empty(low, high):
            return frozenset()
        return frozenset(self.shards[first : last + 1])

    def why_not(self, types: tuple[KeyType, ...]) -> str:
        """Refuse columns whose values do not compare with the bounds."""
        if any(t.kind not in _ORDERED for t in types):
            return "`range` takes integers, decimals, text, dates and timestamps"
        wanted = {family_of(bound) for bound in self.bounds}
        if not wanted or wanted == {t.family for t in types}:
            return ""
        return f"the bounds are {', '.join(sorted(wanted))}"

    def describe(self) -> str:
        """Return every range with its shard."""
        ends = [f"< {_text(bound)}" for bound in self.bounds]
        ends += ["the rest"] * (len(self.shards) - len(ends))
        pairs = ", ".join(f"{e}: {s}" for e, s in zip(ends, self.shards, strict=True))
        return f"ranges of the key ({pairs})"

    def _last(self, high: Bound) -> int:
        return self._index(high.value, bisect_right if high.inclusive else bisect_left)

    def _index(self, value: KeyValue, bisect: Any) -> int:
        if self.bounds and family_of(value) != (wanted := family_of(self.bounds[0])):
            raise KeyValueError(f"expected {wanted}, got {value!r}")
        index: int = bisect(self.bounds, value)
        return index

    def _end(self) -> str:
        return _text(self.bounds[-1])


def build(options: Mapping[str, Any], site: Site) -> RangeFunction:
    """Build the function from its ranges.

    Raises
    ------
    OptionsError
        If the ranges do not ascend, do not compare, or name a shard that does not exist.
    """
    parsed = parse_options(RangeOptions, options)
    single_column("range", site)
    bounds, complaints = _bounds(parsed.ranges)
    complaints += _unknown_shards(parsed.ranges, site)
    complaints += _disorder(bounds)
    if complaints:
        raise OptionsError(complaints)
    shards = tuple(item.shard for item in parsed.ranges)
    return RangeFunction(tuple(value for _, value in bounds), shards)


def _bounds(ranges: Sequence[RangeItem]) -> tuple[list[tuple[int, Any]], list[Complaint]]:
    bounds: list[tuple[int, Any]] = []
    complaints: list[Complaint] = []
    for index, item in enumerate(ranges):
        if item.to is None:
            if index < len(ranges) - 1:
                what = "only the last range may have no `to`"
                complaints.append(Complaint("R118", ("ranges", index), what))
            continue
        try:
            bounds.append((index, normalise(item.to)))
        except KeyValueError as error:
            complaints.append(Complaint("R118", ("ranges", index, "to"), str(error)))
    return bounds, complaints


def _unknown_shards(ranges: Sequence[RangeItem], site: Site) -> Iterator[Complaint]:
    for index, item in enumerate(ranges):
        if item.shard not in site.shards:
            what = f"the keyspace has no shard `{item.shard}`"
            what += suggestion(item.shard, site.shards)
            yield Complaint("R112", ("ranges", index, "shard"), what)


def _disorder(bounds: Sequence[tuple[int, Any]]) -> Iterator[Complaint]:
    for (_, before), (index, after) in pairwise(bounds):
        path = ("ranges", index, "to")
        if family_of(before) != family_of(after):
            what = f"{family_of(after)} does not compare with {family_of(before)} above"
            yield Complaint("R118", path, what)
        elif not before < after:
            what = f"ranges ascend, and {_text(after)} is not above {_text(before)}"
            yield Complaint("R118", path, what)


def _is_empty(low: Bound, high: Bound) -> bool:
    below: Any = low.value
    if below == high.value:
        return not (low.inclusive and high.inclusive)
    return bool(below > high.value)


def _text(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)
