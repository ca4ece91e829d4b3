"""``hash``: a key's hash picks a bucket, the map says whose bucket it is.

Without `assign:`, buckets are dealt in equal runs, in the order of the shards: with B
buckets and n shards, the first ``B mod n`` shards get ``B // n + 1`` buckets each, the
others ``B // n``.  1024 buckets over three shards: 0-341, 342-682, 683-1023.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Any

from pydantic import Field
from xxhash import xxh64_intdigest

from router.shardmap.findings import At, suggestion
from router.shardmap.functions.building import Complaint, OptionsError, Site
from router.shardmap.functions.protocol import Key
from router.shardmap.keys import encode
from router.shardmap.strict import Name, Strict, parse_options

_MOST_LISTED = 5


class HashOptions(Strict):
    """Options of `hash`."""

    buckets: Annotated[int, Field(ge=1, le=65536)] = 1024
    assign: dict[Name, list[Annotated[list[int], Field(min_length=2, max_length=2)]]] | None = (
        Field(
            default=None, description="shard: ranges of its buckets, first and last, both included"
        )
    )


@dataclass(frozen=True, slots=True)
class HashFunction:
    """Maps a key to ``owners[hash % len(owners)]``; `owners` has a shard for every bucket."""

    owners: tuple[str, ...] = field(repr=False)

    def bucket_of(self, key: Key) -> int:
        """Return the bucket of `key`, as `router.shardmap.keys` defines it."""
        return xxh64_intdigest(encode(key)) % len(self.owners)

    def shard_of(self, key: Key) -> str:
        """Return the shard that owns the key's bucket."""
        return self.owners[self.bucket_of(key)]

    def describe(self) -> str:
        """Return the bucket count and the runs of buckets of each shard."""
        runs = ", ".join(f"{shard}: {first}-{last}" for shard, first, last in _runs(self.owners))
        return f"hash of the key into {len(self.owners)} buckets ({runs})"


def build(options: Mapping[str, Any], site: Site) -> HashFunction:
    """Build the function, dealing the buckets out or taking them as assigned.

    Raises
    ------
    OptionsError
        If a bucket has no shard or several, or there are fewer buckets than shards.
    """
    parsed = parse_options(HashOptions, options)
    if parsed.assign is not None:
        return HashFunction(_assigned(parsed.assign, parsed.buckets, site))
    if parsed.buckets < len(site.shards):
        what = f"{parsed.buckets} buckets are too few for {len(site.shards)} shards"
        raise OptionsError([Complaint("R117", ("buckets",), what)])
    return HashFunction(_dealt(parsed.buckets, site.shards))


def _dealt(buckets: int, shards: Sequence[str]) -> tuple[str, ...]:
    share, rest = divmod(buckets, len(shards))
    counts = [share + (position < rest) for position in range(len(shards))]
    return tuple(s for s, count in zip(shards, counts, strict=True) for _ in range(count))


def _assigned(assign: Mapping[str, list[list[int]]], buckets: int, site: Site) -> tuple[str, ...]:
    owners: list[str | None] = [None] * buckets
    complaints: list[Complaint] = []
    for shard, ranges in assign.items():
        if shard not in site.shards:
            what = f"the keyspace has no shard `{shard}`" + suggestion(shard, site.shards)
            complaints.append(Complaint("R112", ("assign", shard), what, At.KEY))
        for index, (first, last) in enumerate(ranges):
            path = ("assign", shard, index)
            if 0 <= first <= last < buckets:
                complaints += _take(owners, shard, first, last, path)
            else:
                what = f"[{first}, {last}] is not a range of buckets between 0 and {buckets - 1}"
                complaints.append(Complaint("R117", path, what))
    missing = [bucket for bucket, owner in enumerate(owners) if owner is None]
    if missing and not complaints:
        what = f"no shard has {_listed(missing)}"
        complaints.append(Complaint("R117", ("assign",), what))
    if complaints:
        raise OptionsError(complaints)
    return tuple(owner for owner in owners if owner is not None)


def _take(
    owners: list[str | None], shard: str, first: int, last: int, path: tuple[str | int, ...]
) -> Iterator[Complaint]:
    taken = [bucket for bucket in range(first, last + 1) if owners[bucket] is not None]
    if taken:
        others = ", ".join(sorted({f"`{owners[bucket]}`" for bucket in taken}))
        yield Complaint("R117", path, f"{others} already has {_listed(taken)}")
    owners[first : last + 1] = [owner or shard for owner in owners[first : last + 1]]


def _listed(buckets: Sequence[int]) -> str:
    first = ", ".join(str(bucket) for bucket in buckets[:_MOST_LISTED])
    more = len(buckets) - _MOST_LISTED
    noun = "bucket" if len(buckets) == 1 else "buckets"
    return f"{noun} {first}" + (f" and {more} more" if more > 0 else "")


def _runs(owners: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    for shard, run in groupby(enumerate(owners), key=lambda pair: pair[1]):
        buckets = [bucket for bucket, _ in run]
        yield shard, buckets[0], buckets[-1]
