"""YAML as this library reads it: scalars, merges, bounds."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from router.shardmap.findings import At, Findings
from router.shardmap.yaml_source import MAX_ALIASES, MAX_DEPTH, read_yaml


def read(text: str) -> Any:
    """Return the data of a text without problems."""
    findings = read_yaml(text, "m.yaml")
    assert findings.problems == []
    return findings.document.data


def only_problem(findings: Findings) -> tuple[str, str]:
    """Return place and sentence of the only problem, which is R102."""
    (problem,) = findings.problems
    assert problem.id == "R102"
    return problem.where, problem.what


SCALARS: list[tuple[str, Any]] = [
    ("5", 5),
    ("-5", -5),
    ("007", "007"),
    ("1_000", "1_000"),
    ("0x10", "0x10"),
    ("1.50", Decimal("1.50")),
    ("-.5", Decimal("-0.5")),
    (".inf", ".inf"),
    ("1:30", "1:30"),
    ("NO", "NO"),
    ("on", "on"),
    ("yes", "yes"),
    ("true", True),
    ("False", False),
    ("~", None),
    ("null", None),
    ("2024-02-29", date(2024, 2, 29)),
    ("2024-02-29 10:11:12", datetime(2024, 2, 29, 10, 11, 12)),  # noqa: DTZ001
    ("2024-02-29T10:11:12.5Z", datetime(2024, 2, 29, 10, 11, 12, 500_000, UTC)),
    ('"2024-02-29"', "2024-02-29"),
    ("'5'", "5"),
    ('!!str "5"', "5"),
    ("${X:-5}", "${X:-5}"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars(text: str, value: Any) -> None:
    """Plain scalars follow YAML 1.2, plus dates; fractions stay exact."""
    got = read(f"k: {text}\n")["k"]
    assert (got, type(got)) == (value, type(value))


def test_marks_point_at_keys_and_values() -> None:
    """Each key and each value has a line and a column, also in flow style."""
    document = read_yaml("a:\n  b: [x, {c: 1}]\n", "m.yaml").document
    assert document.where(("a",), At.KEY) == "m.yaml:1:1"
    assert document.where(("a", "b"), At.KEY) == "m.yaml:2:3"
    assert document.where(("a", "b")) == "m.yaml:2:6"
    assert document.where(("a", "b", 1, "c")) == "m.yaml:2:14"
    assert document.where(("a", "b", 1), At.KEY) == "m.yaml:2:10"
    assert document.where(("a", "b", 9, "nowhere")) == "m.yaml:2:3"


def test_merged_mappings_give_way_to_own_keys() -> None:
    """`<<` fills in what a mapping does not say itself; the first source wins."""
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}\nw: {<<: *y}\n"
    data = read(text)
    assert (data["z"], data["w"]) == ({"a": 0, "b": 1, "c": 2}, {"b": 2, "c": 2})


def test_marks_of_own_keys_survive_a_merge() -> None:
    """A key that overrides a merged one is where it was written."""
    document = read_yaml("x: &x {a: 1}\nz:\n  a: 0\n  <<: *x\n", "m.yaml").document
    assert document.where(("z", "a")) == "m.yaml:3:6"


def test_merging_something_else_is_refused() -> None:
    """`<<` takes mappings only."""
    assert only_problem(read_yaml("z: {<<: 5}\n", "m"))[1] == "`<<` takes mappings"


def test_a_few_lines_cannot_stand_for_billions_of_values() -> None:
    """Nine levels of nine aliases are refused quickly, and by name."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        aliases = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    place, what = only_problem(read_yaml("\n".join(lines), "m"))
    assert place.startswith("m:")
    assert what.startswith("aliases that stand for more than")


def test_merges_cannot_explode_either() -> None:
    """Merge keys are counted like any other use of an alias."""
    lines = ["a0: &a0 {k: 1}"]
    for level in range(1, 30):
        lines.append(f"a{level}: &a{level} {{<<: [*a{level - 1}, *a{level - 1}]}}")
    assert "aliases that stand for" in only_problem(read_yaml("\n".join(lines), "m"))[1]


def test_the_number_of_aliases_is_bounded() -> None:
    """More aliases than any map needs are refused where the first one too many stands."""
    text = "a: &a 1\nb: [" + ", ".join(["*a"] * (MAX_ALIASES + 1)) + "]\n"
    assert only_problem(read_yaml(text, "m"))[1] == f"more than {MAX_ALIASES} aliases"


def test_a_value_that_contains_itself_is_refused() -> None:
    """An alias of an ancestor has no end."""
    assert "contain themselves" in only_problem(read_yaml("a: &a [*a]\n", "m"))[1]


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 20_000])
def test_depth_is_bounded(depth: int) -> None:
    """Deep nesting is a problem of the file, not a RecursionError."""
    place, what = only_problem(read_yaml("[" * depth, "m"))
    assert (place, what) == (f"m:1:{MAX_DEPTH + 1}", f"nested deeper than {MAX_DEPTH} levels")


@pytest.mark.parametrize(
    "text", ["k: *hunter2", "k: !hunter2!x y", 'k: "\\hunter2"', "k: !<hunter2> x"]
)
def test_syntax_errors_quote_nothing(text: str) -> None:
    """What the parser would repeat from the file could be a password."""
    (problem,) = read_yaml(text, "m").problems
    assert "hunter2" not in str(problem)
