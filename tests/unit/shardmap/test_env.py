"""Environment variables in a map."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.shardmap.env import expand
from router.shardmap.findings import Document, Findings
from tests.unit.shardmap.maps import HEAD, found, text

ENVIRON = {"A": "1", "EMPTY": "", "NESTED": "${A}"}

CASES = [
    ("plain", "plain"),
    ("${A}", "1"),
    ("x${A}y${A}z", "x1y1z"),
    ("${B:-two}", "two"),
    ("${A:-two}", "1"),
    ("${EMPTY:-two}", "two"),
    ("${EMPTY}", ""),
    ("${B:-}", ""),
    ("${B:-a:b/c?d=e}", "a:b/c?d=e"),
    ("$${A}", "${A}"),
    ("$A $$", "$A $$"),
    ("${NESTED}", "${A}"),
]


def expanded(value: object) -> tuple[object, list[str]]:
    """Return a value with its variables filled in, and the problems."""
    document = Document(value, "m")
    findings = Findings(document)
    data = expand(document, ENVIRON, findings).data
    return data, [problem.what for problem in findings.problems]


@pytest.mark.parametrize(("value", "result"), CASES)
def test_references(value: str, result: str) -> None:
    """References are replaced once; defaults count when a variable is unset or empty."""
    assert expanded(value) == (result, [])


def test_every_string_in_every_depth() -> None:
    """Values of mappings and lists are filled in; keys and other types are not."""
    assert expanded({"${A}": [{"k": "${A}"}, 5, None]}) == ({"${A}": [{"k": "1"}, 5, None]}, [])


def test_each_missing_variable_is_named() -> None:
    """All variables of one string that are missing are named, each once."""
    _, problems = expanded("${X}${Y}${X}")
    assert problems == [f"the environment variable {name} is not set" for name in "XY"]


@pytest.mark.parametrize("value", ["${", "${A", "${1}", "${A-b}", "${}"])
def test_malformed_references(value: str) -> None:
    """Something that looks like a reference and is none is refused, not passed on."""
    assert expanded(value)[1] == ["`${` without a name and `}`"]


def test_a_missing_variable_is_the_only_problem_of_its_value() -> None:
    """A URL whose password is missing is not called a bad URL as well."""
    source = HEAD.replace("sqlite:///a.db", "mysql://u:${PW}@h:${PORT}/a") + "keyspaces: {}"
    assert [what for _, _, what in found(source)] == [
        "the environment variable PW is not set",
        "the environment variable PORT is not set",
    ]


def test_the_default_environment_is_the_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ=`, variables come from os.environ, at the time of loading."""
    from router.shardmap.load import load_text

    monkeypatch.setenv("ROUTER_TEST_DB", "main")
    m = load_text(text('one: { database: "${ROUTER_TEST_DB}" }'))
    assert m.databases_of(m.keyspaces["one"]) == ("main",)


@given(st.text())
def test_text_without_braces_is_never_changed(value: str) -> None:
    """Only `${` starts something."""
    plain = value.replace("{", "")
    assert expanded(plain) == (plain, [])


@given(st.text())
def test_any_text_can_be_written(value: str) -> None:
    """With `${` written as `$${`, every string comes out as it was meant."""
    escaped = value.replace("${", "$${")
    assert expanded(escaped)[0] == value
