"""Positions of servers, and the tokens that carry them."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import RoutingError
from router.replicas import tokens
from router.replicas.positions import (
    UNKNOWN,
    Gtids,
    GtidSet,
    Lsn,
    Position,
    gtid_set,
    of_mariadb,
    of_mysql,
    of_postgresql,
    parsed,
)

A, B = "a" * 32, "b" * 32
NUMBERS = st.integers(0, 2**64 - 1)
LSNS = st.builds(Lsn, NUMBERS)
TRIPLES = st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 50))
GTIDS = st.dictionaries(st.integers(0, 3), TRIPLES, min_size=1).map(
    lambda found: Gtids(tuple((domain, one[1], one[2]) for domain, one in sorted(found.items())))
)
SPANS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), min_size=1).map(
    lambda found: tuple((low, low + more) for low, more in found)
)
SETS = st.lists(st.tuples(st.sampled_from([A, B, f"{A}.tag"]), SPANS), min_size=1).map(gtid_set)
SAME_KIND = st.one_of(st.tuples(*[kind] * 3) for kind in (LSNS, GTIDS, SETS))
ANY: st.SearchStrategy[Position] = st.one_of(LSNS, GTIDS, SETS, st.just(UNKNOWN))
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(SAME_KIND)
def test_what_is_joined_covers_both(positions: tuple[Position, Position, Position]) -> None:
    """And nothing that covers both is smaller; covering is transitive."""
    one, other, third = positions
    joined = one.joined(other)
    assert joined.covers(one)
    assert joined.covers(other)
    assert one.covers(one)
    if third.covers(one) and third.covers(other):
        assert third.covers(joined)
    if one.covers(other) and other.covers(third):
        assert one.covers(third)


@given(ANY, ANY)
def test_kinds_do_not_mix(one: Position, other: Position) -> None:
    """A position of one kind covers none of another; nothing covers what is not known."""
    if type(one) is not type(other):
        assert not one.covers(other)
        assert one.joined(other) is UNKNOWN
    assert not one.covers(UNKNOWN)
    assert not UNKNOWN.covers(one)
    assert one.joined(UNKNOWN) is UNKNOWN


@given(ANY)
def test_texts_come_back(position: Position) -> None:
    """A position is what its text says, which fits into cookies and headers."""
    text = str(position)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", text)
    assert parsed(text) == position


@given(st.dictionaries(NAMES, ANY, min_size=1, max_size=5))
def test_tokens_come_back(positions: dict[str, Position]) -> None:
    """A token says what it was made of."""
    token = tokens.written(positions)
    assert token is not None
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", token)
    assert tokens.read(token) == positions


@given(st.text(max_size=60))
def test_other_texts_are_refused(text: str) -> None:
    """Whatever comes from outside is a token or a `RoutingError`, and nothing else."""
    for given_text in (text, f"1~{text}", f"1~main~{text}", f"1~main~w{text}"):
        with suppress(RoutingError):
            found = tokens.read(given_text)
            assert tokens.read(str(tokens.written(found))) == found


def test_a_token_is_short() -> None:
    """One that would not fit into a cookie only says where something was written."""
    many = tuple((number * 2, number * 2) for number in range(2000))
    token = tokens.written({"main": GtidSet(((A, many),)), "d0": Lsn(5)})
    assert token == "1~d0~x~main~x"
    assert tokens.written({}) is None


def test_postgresql() -> None:
    """As it writes its positions; the header of an empty page counts as the page's beginning."""
    assert of_postgresql("16/B374D848") == Lsn(0x16B374D848)
    assert of_postgresql("0/2000018") == Lsn(0x2000000)
    assert of_postgresql("0/2000020") == Lsn(0x2000020)
    assert of_postgresql(None) is None


def test_mariadb() -> None:
    """Several domains, of which each counts for itself."""
    position = of_mariadb("0-1-270,5-2-3")
    assert position == Gtids(((0, 1, 270), (5, 2, 3)))
    assert position.covers(Gtids(((0, 9, 270),)))
    assert not position.covers(Gtids(((0, 1, 271),)))
    assert not position.covers(Gtids(((1, 1, 1),)))
    assert of_mariadb("") is None


def test_mysql() -> None:
    """Sets with gaps, tags and line breaks."""
    uuid = "3E11FA47-71CA-11E1-9E33-C80AA9429562"
    position = of_mysql(f"{uuid}:1-5:7,\n{uuid}:tag:1-2")
    short = uuid.replace("-", "").lower()
    assert position == GtidSet(((short, ((1, 5), (7, 7))), (f"{short}.tag", ((1, 2),))))
    assert position.covers(GtidSet(((short, ((2, 4),)),)))
    assert not position.covers(GtidSet(((short, ((5, 7),)),)))
    assert not position.covers(GtidSet(((A, ((1, 1),)),)))
    assert of_mysql("") is None


@pytest.mark.parametrize("text", ["", "w", "W1", "w-1", "m", "m1", "g", "gx", "xx", "z1", "w 1"])
def test_no_position(text: str) -> None:
    """Other texts are errors."""
    with pytest.raises(ValueError, match="no "):
        parsed(text)
