"""Options of sharding functions that are refused, and where."""

from __future__ import annotations

import pytest

from router.shardmap.load import load_text
from tests.unit.shardmap.maps import found, sharded, shop, text

LISTS = "{ function: list, values: { s0: [US, CA], s1: [DE] }"
RANGES = "{ function: range, ranges: [{ to: 10, shard: s0 }, { to: 20, shard: s1 }"
HASH = "{ function: hash, buckets: 4, "
REFUSED: dict[str, tuple[str, str, str]] = {
    "{ function: hash, buckets: 1 }": ("R117", "1 }", "1 buckets are too few for 2 shards"),
    "{ function: hash, buckets: 0 }": ("R106", "0 }", "expected at least 1"),
    "{ function: hash, bukets: 8 }": (
        "R104",
        "bukets: 8 }",
        "unknown key `bukets`; did you mean `buckets`?",
    ),
    HASH + "assign: { s0: [[0, 1]], s1: [[1, 3]] } }": (
        "R117",
        "[1, 3]] } }",
        "`s0` already has bucket 1",
    ),
    HASH + "assign: { s0: [[0, 0]] } }": (
        "R117",
        "{ s0: [[0, 0]] } }",
        "no shard has buckets 1, 2, 3",
    ),
    HASH + "assign: { s0: [[0, 4]] } }": (
        "R117",
        "[0, 4]] } }",
        "[0, 4] is not a range of buckets between 0 and 3",
    ),
    HASH + "assign: { s0: [[-1, 3]] } }": (
        "R117",
        "[-1, 3]] } }",
        "[-1, 3] is not a range of buckets between 0 and 3",
    ),
    HASH + "assign: { s0: [[3, 0]] } }": (
        "R117",
        "[3, 0]] } }",
        "[3, 0] is not a range of buckets between 0 and 3",
    ),
    HASH + "assign: { s0: [[3]] } }": (
        "R106",
        "[3]] } }",
        "expected at least 2 entries",
    ),
    HASH + "assign: { s5: [[0, 3]] } }": (
        "R112",
        "s5: [[0, 3]] } }",
        "the keyspace has no shard `s5`",
    ),
    "{ function: hash, buckets: 60000, assign: { s0: [[0, 9]] } }": (
        "R117",
        "{ s0: [[0, 9]] } }",
        "no shard has buckets 10, 11, 12, 13, 14 and 59985 more",
    ),
    "{ function: modulo, x: 1 }": ("R104", "x: 1 }", "unknown key `x`"),
    "{ function: range, ranges: [] }": ("R106", "[] }", "expected at least 1 entry"),
    RANGES + ", { to: 20, shard: s0 }] }": (
        "R118",
        "20, shard: s0 }] }",
        "ranges ascend, and 20 is not above 20",
    ),
    RANGES + ", { to: 15, shard: s0 }] }": (
        "R118",
        "15, shard: s0 }] }",
        "ranges ascend, and 15 is not above 20",
    ),
    RANGES + ", { to: x, shard: s0 }] }": (
        "R118",
        "x, shard: s0 }] }",
        "text does not compare with a number above",
    ),
    RANGES + ", { shard: s0 }, { to: 99, shard: s1 }] }": (
        "R118",
        "{ shard: s0 }, { to: 99, shard: s1 }] }",
        "only the last range may have no `to`",
    ),
    RANGES + ", { to: true, shard: s0 }] }": (
        "R118",
        "true, shard: s0 }] }",
        "expected an integer, got bool True",
    ),
    RANGES + ", { to: 30, shrad: s0 }] }": (
        "R104",
        "shrad: s0 }] }",
        "unknown key `shrad`; did you mean `shard`?",
    ),
    RANGES + ", { to: 30, shard: s9 }] }": (
        "R112",
        "s9 }] }",
        "the keyspace has no shard `s9`",
    ),
    "{ function: list }": ("R105", "sharding: { function: list }", "`values` is missing"),
    "{ function: list, values: { s0: [a, 1] } }": (
        "R118",
        "{ s0: [a, 1] } }",
        "the listed keys are of different types: a number, text",
    ),
    "{ function: list, values: { s0: [a], s1: [a] } }": (
        "R118",
        "a] } }",
        "'a' is listed twice: `s0` already has it",
    ),
    "{ function: list, values: { s0: [5, 5.0] } }": (
        "R118",
        "5.0] } }",
        "5 is listed twice: `s0` already has it",
    ),
    LISTS + ", default: s9 }": (
        "R112",
        "s9 }",
        "the keyspace has no shard `s9`",
    ),
    "{ function: list, values: { s9: [a] } }": (
        "R112",
        "s9: [a] } }",
        "the keyspace has no shard `s9`",
    ),
    "{ function: directory, database: x }": ("R110", "x }", "there is no database `x`"),
    "{ function: directory, database: main, place: { function: hash, buckets: 1 } }": (
        "R117",
        "1 } }",
        "1 buckets are too few for 2 shards",
    ),
    "{ function: directory, database: main, place: { function: directory } }": (
        "R106",
        "directory } }",
        "a directory cannot place the keys of another one",
    ),
    "{ function: directory, database: main, place: {} }": ("R105", "{} }", "`function` is missing"),
}


@pytest.mark.parametrize("sharding", REFUSED)
def test_options_that_make_no_function(sharding: str) -> None:
    """Every fault of the options has its place within `sharding:`."""
    source = shop(sharding)
    (problem,) = found(source)
    line, column = (int(number) for number in problem[1].split(":"))
    at = source.splitlines()[line - 1][column - 1 :]
    assert (problem[0], at, problem[2]) == REFUSED[sharding]


@pytest.mark.parametrize("name", ["modulo", "range", "list"])
def test_composite_keys_need_a_function_that_takes_them(name: str) -> None:
    """Functions of one column refuse keyspaces with keys of two."""
    options = {
        "modulo": "",
        "range": ", ranges: [{ shard: s0 }]",
        "list": ", values: { s0: [1] }",
    }[name]
    source = shop(f"{{ function: {name}{options} }}", "{ orders: [tenant, id] }")
    assert found(source) == [
        ("R119", "9:27", f"`{name}` takes keys of one column, and these have 2")
    ]


def test_several_faults_of_one_function() -> None:
    """Options are checked to the end too."""
    sharding = HASH + "assign: { s0: [[0, 1], [9, 9]], s1: [[1, 3]], s5: [[2, 2]] } }"
    assert [found_[0] for found_ in found(shop(sharding))] == ["R117", "R117", "R112", "R117"]


def test_a_keyspace_of_references_alone() -> None:
    """A function needs no tables."""
    source = text(
        "shop: { shards: { s0: a }, sharding: { function: modulo }, reference_tables: [r] }"
    )
    assert sharded(load_text(source)).tables == {}
