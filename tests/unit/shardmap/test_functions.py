"""The sharding functions: who gets which key, and which options are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from router.shardmap.functions.directory import DirectoryFunction, open_directories
from router.shardmap.functions.hash import HashFunction
from router.shardmap.functions.modulo import ModuloFunction
from router.shardmap.functions.protocol import (
    Bound,
    DirectoryStore,
    Key,
    NoShardError,
    OrderedFunction,
)
from router.shardmap.functions.range import RangeFunction
from router.shardmap.keys import KeyValueError, encode
from router.shardmap.load import load_text
from tests.unit.shardmap.maps import sharded, shop
from tests.unit.shardmap.test_keys import KEYS

# Key ids of vitess/go/vt/vtgate/vindexes/xxhash_test.go (Apache License 2.0).
VITESS = {
    1: "d46405367612b4b7",
    -1: "d8e2a6a7c8c7623d",
    18446744073709551615: "477cfa8d6d8f1f8d",
    9223372036854775807: "b37eb01f7bffafd8",
    -9223372036854775808: "102c27ddb26a609e",
}

BUCKETS: dict[Any, int] = {
    (0,): 1004,
    (7,): 695,
    ("Zoë",): 937,
    (Decimal("2.5"),): 261,
    (date(2024, 1, 2),): 135,
    (b"\x00",): 340,
    (7, "x"): 236,
}

LISTS = "{ function: list, values: { s0: [US, CA], s1: [DE] }"
RANGES = "{ function: range, ranges: [{ to: 10, shard: s0 }, { to: 20, shard: s1 }"


def function(sharding: str, tables: str = "{ orders: id }") -> Any:
    """Return the function of a map with the shards s0 and s1."""
    return sharded(load_text(shop(sharding, tables), "m.yaml")).function


# -- hash -------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "keyspace_id"), VITESS.items())
def test_hashes_of_integers_are_those_of_vitess(number: int, keyspace_id: str) -> None:
    """The same data can be split by Vitess and by this library."""
    digest = xxh64_intdigest(encode((number,)))
    assert digest.to_bytes(8, "little").hex() == keyspace_id
    hashed = cast(HashFunction, function("{ function: hash, buckets: 1000 }"))
    assert hashed.bucket_of((number,)) == digest % 1000


@pytest.mark.parametrize(("key", "bucket"), BUCKETS.items())
def test_buckets_are_pinned(key: Key, bucket: int) -> None:
    """A change here moves rows: it may never happen."""
    assert function("{ function: hash }").bucket_of(key) == bucket


@pytest.mark.parametrize(
    ("buckets", "shards", "counts"), [(1024, 3, [342, 341, 341]), (5, 5, [1] * 5), (7, 2, [4, 3])]
)
def test_buckets_are_dealt_in_equal_runs(buckets: int, shards: int, counts: list[int]) -> None:
    """The first shards get one bucket more when it does not come out even."""
    names = [f"s{i}" for i in range(shards)]
    databases = "".join(f"  d{i}: {{ url: 'sqlite:///{i}' }}\n" for i in range(shards))
    source = (
        f"version: 1\ndatabases:\n{databases}keyspaces:\n  shop:\n"
        f"    shards: {{ {', '.join(f's{i}: d{i}' for i in range(shards))} }}\n"
        f"    sharding: {{ function: hash, buckets: {buckets} }}\n"
    )
    owners = cast(HashFunction, sharded(load_text(source)).function).owners
    assert [Counter(owners)[name] for name in names] == counts
    assert sorted(owners) == list(owners)


@given(st.integers(1, 2000), st.data())
def test_every_bucket_has_a_shard(buckets: int, data: st.DataObject) -> None:
    """Any cut of the buckets into two assigned ranges gives a total function."""
    cut = data.draw(st.integers(1, max(buckets - 1, 1)))
    ranges = (
        "s0: [[0, 0]]" if buckets == 1 else f"s0: [[0, {cut - 1}]], s1: [[{cut}, {buckets - 1}]]"
    )
    made = function(f"{{ function: hash, buckets: {buckets}, assign: {{ {ranges} }} }}")
    assert made.owners == ("s0",) * cut + ("s1",) * (buckets - cut)


@given(KEYS)
def test_hash_takes_every_key(key: Key) -> None:
    """Every normalised key has one of the shards, always the same."""
    made = function("{ function: hash }")
    assert made.shard_of(key) in {"s0", "s1"}
    assert made.shard_of(key) == made.shard_of(key)


def test_hash_promises_no_order() -> None:
    """Ranges of keys cannot be pruned under a hash."""
    assert not isinstance(function("{ function: hash }"), OrderedFunction)


# -- modulo -----------------------------------------------------------------------------


def test_modulo_follows_the_order_of_the_shards() -> None:
    """Remainders are never negative."""
    made = function("{ function: modulo }")
    assert [made.shard_of((key,)) for key in (0, 1, 2, -1, -2)] == ["s0", "s1", "s0", "s1", "s0"]
    assert ModuloFunction(("a", "b", "c")).shard_of((-1,)) == "c"


@pytest.mark.parametrize("key", [("1",), (Decimal("1.5"),), (1, 2)], ids=repr)
def test_modulo_takes_single_integers_only(key: Key) -> None:
    """Another key is an error, not some shard."""
    with pytest.raises(KeyValueError):
        function("{ function: modulo }").shard_of(key)


# -- range ------------------------------------------------------------------------------


def test_upper_bounds_are_exclusive() -> None:
    """A key that equals a bound is in the next range."""
    made = function(RANGES + ", { shard: s0 }] }")
    keys = [-5, 9, Decimal("9.99"), 10, 19, 20, 10**9]
    assert [made.shard_of((key,)) for key in keys] == ["s0", "s0", "s0", "s1", "s1", "s0", "s0"]


def test_keys_beyond_the_last_range_have_no_shard() -> None:
    """Without an open last range, the function is not total."""
    with pytest.raises(NoShardError, match="20 is beyond the last range, which ends at 20"):
        function(RANGES + "] }").shard_of((20,))


@pytest.mark.parametrize(
    ("bound", "below", "above"),
    [
        ("m", "l", "n"),
        ("2024-01-01", date(2023, 12, 31), date(2024, 1, 1)),
        ("1.5", Decimal("1.25"), 2),
        (
            "2024-01-01T00:00:00Z",
            datetime(2023, 1, 1, tzinfo=UTC),
            datetime(2025, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_bounds_of_every_type(bound: str, below: Any, above: Any) -> None:
    """Text, dates, decimals and timestamps have an order too."""
    ranges = f"[{{ to: {bound}, shard: s0 }}, {{ shard: s1 }}]"
    made = function(f"{{ function: range, ranges: {ranges} }}")
    assert (made.shard_of((below,)), made.shard_of((above,))) == ("s0", "s1")


@pytest.mark.parametrize("key", ["x", date(2024, 1, 1), b"x"], ids=repr)
def test_range_takes_keys_of_its_own_type(key: Any) -> None:
    """What does not compare is an error."""
    with pytest.raises(KeyValueError, match="expected a number"):
        function(RANGES + "] }").shard_of((key,))


BOUND = st.one_of(st.none(), st.builds(Bound, st.integers(-3, 33), st.booleans()))
POINTS = [Decimal(n) / 4 for n in range(-40, 180)]


def _inside(point: Decimal, low: Bound | None, high: Bound | None) -> bool:
    above = low is None or point > cast(int, low.value) or (low.inclusive and point == low.value)
    below = (
        high is None or point < cast(int, high.value) or (high.inclusive and point == high.value)
    )
    return above and below


@given(BOUND, BOUND, st.booleans())
def test_ranges_are_pruned_exactly(low: Bound | None, high: Bound | None, is_open: bool) -> None:
    """The shards between two bounds are those of the keys between them, no more, no fewer."""
    shards = ("a", "b", "c", *(["d"] if is_open else []))
    made = RangeFunction((10, 20, 30), shards)
    wanted = set()
    for point in POINTS:
        if _inside(point, low, high) and (is_open or point < 30):
            wanted.add(made.shard_of((int(point) if point == int(point) else point,)))
    assert made.shards_between(low, high) == wanted


def test_ranges_of_text_are_not_pruned() -> None:
    """The order of the database's collation is not that of code points."""
    made = RangeFunction(("m",), ("a", "b"))
    assert made.shards_between(Bound("x", True), None) == {"a", "b"}


# -- list -------------------------------------------------------------------------------


def test_lists_and_their_default() -> None:
    """Listed keys go where they are listed, the others to the default."""
    made = function(LISTS + ", default: s1 }")
    assert [made.shard_of((key,)) for key in ("US", "DE", "FR")] == ["s0", "s1", "s1"]
    with pytest.raises(NoShardError, match="'FR' is not listed, and there is no default"):
        function(LISTS + " }").shard_of(("FR",))


def test_norway_is_a_country() -> None:
    """`NO` is text, not false."""
    assert function("{ function: list, values: { s0: [NO], s1: [SE] } }").shard_of(("NO",)) == "s0"


# -- directory --------------------------------------------------------------------------


class Memory:
    """A directory in a dict."""

    def __init__(self) -> None:
        self.placed: dict[Key, str] = {}

    def lookup(self, keys: Iterable[Key]) -> Mapping[Key, str]:
        """Return those that are there."""
        return {key: self.placed[key] for key in keys if key in self.placed}

    def place(self, placements: Mapping[Key, str]) -> Mapping[Key, str]:
        """Place the others."""
        self.placed = {**placements, **self.placed}
        return self.lookup(placements)


DIRECTORY = "{ function: directory, database: main, place: { function: modulo } }"


def test_reading_a_directory_places_nothing() -> None:
    """A key that was not placed yet resolves to where it would be placed."""
    store = Memory()
    made = function(DIRECTORY).with_store(store)
    assert (made.shard_of((3,)), store.placed) == ("s1", {})
    assert made.shards_of([(3,), (4,)]) == {(3,): "s1", (4,): "s0"}


def test_new_keys_are_placed_once() -> None:
    """A key that was placed before stays where it is, whatever `place` says."""
    store = Memory()
    store.placed[(3,)] = "s0"
    made = function(DIRECTORY).with_store(store)
    assert made.shard_of_new([(3,), (5,)]) == {(3,): "s0", (5,): "s1"}
    assert store.placed == {(3,): "s0", (5,): "s1"}
    assert made.shard_of((3,)) == "s0"


def test_a_directory_without_a_store_does_not_guess() -> None:
    """Until its store is attached, a directory answers nothing."""
    with pytest.raises(RuntimeError, match="open_directories"):
        function(DIRECTORY).shard_of((3,))


def test_directories_of_a_map_are_opened_together() -> None:
    """Every directory gets the store of its keyspace and database; the rest stays as it is."""
    shard_map = load_text(shop(DIRECTORY) + "  one: { database: a }\n")
    stores: dict[tuple[str, str], Memory] = {}

    def open_store(keyspace: str, database: str) -> DirectoryStore:
        return stores.setdefault((keyspace, database), Memory())

    opened = open_directories(shard_map, open_store)
    made = sharded(opened).function
    assert isinstance(made, DirectoryFunction)
    assert made.shard_of_new([(3,)]) == {(3,): "s1"}
    assert stores["shop", "main"].placed == {(3,): "s1"}
    assert opened.keyspaces["one"] is shard_map.keyspaces["one"]


def test_new_keys_are_placed_by_hash_by_default() -> None:
    """`place:` may be left out."""
    made = function("{ function: directory, database: main }")
    assert isinstance(made.place, HashFunction)


# -- all --------------------------------------------------------------------------------

DESCRIPTIONS = {
    "{ function: hash, buckets: 4 }": "hash of the key into 4 buckets (s0: 0-1, s1: 2-3)",
    "{ function: modulo }": "key modulo 2 (s0, s1)",
    RANGES + ", { shard: s0 }] }": "ranges of the key (< 10: s0, < 20: s1, the rest: s0)",
    LISTS + ", default: s1 }": "list of keys (s0: 2, s1: 1; all others: s1)",
    DIRECTORY: "directory in main; new keys by key modulo 2 (s0, s1)",
}


@pytest.mark.parametrize(("sharding", "description"), DESCRIPTIONS.items())
def test_descriptions(sharding: str, description: str) -> None:
    """Each function says in a line what it does."""
    assert function(sharding).describe() == description


@pytest.mark.parametrize("sharding", DESCRIPTIONS)
def test_functions_are_values(sharding: str) -> None:
    """Two maps with the same text have equal, hashable functions."""
    one, two = function(sharding), function(sharding)
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(FrozenInstanceError):
        setattr(one, fields(one)[0].name, ())
