"""Normal form and canonical form of shard keys."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.shardmap.functions.protocol import Key, KeyValue
from router.shardmap.keys import KeyKind, KeyType, KeyValueError, Zone, encode, family_of, normalise

NAIVE = datetime(2024, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001
AWARE = datetime(2024, 1, 2, 3, 4, 5, 6, UTC)
SOME_UUID = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


class Colour(Enum):
    """A plain enum."""

    RED = "red"


class Word(StrEnum):
    """An enum whose members are strings."""

    RED = "red"


class Number(IntEnum):
    """An enum whose members are integers."""

    ONE = 1


class MyStr(str):
    """A string that prints as something else."""

    def __str__(self) -> str:
        return "other"


VALUES = st.one_of(
    st.integers(-(10**30), 10**30),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.uuids(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.binary(),
)
KEYS = st.lists(VALUES, min_size=1, max_size=3).map(lambda vs: tuple(normalise(v) for v in vs))

SAME: list[tuple[object, KeyValue]] = [
    (5, 5),
    (Decimal(5), 5),
    (Decimal("5.00"), 5),
    (Decimal("5E+2"), 500),
    (Decimal("-0"), 0),
    (np.int64(5), 5),
    (np.uint8(5), 5),
    (Decimal("5.50"), Decimal("5.5")),
    (MyStr("a"), "a"),
    (np.str_("a"), "a"),
    (bytearray(b"a"), b"a"),
    (memoryview(b"abcd")[::2], b"ac"),
    (SOME_UUID, SOME_UUID),
    (datetime(2024, 1, 2, 5, 4, 5, 6, timezone(timedelta(hours=2))), AWARE),
    (NAIVE.replace(fold=1), NAIVE),
]


@pytest.mark.parametrize(("value", "normal"), SAME)
def test_values_that_are_one_key(value: object, normal: KeyValue) -> None:
    """Types that a column cannot tell apart are normalised to one plain value."""
    got = normalise(value)
    assert (got, type(got)) == (normal, type(normal))


NO_KEYS = [None, True, 1.5, float("nan"), [1], object(), np.bool_(True), np.float64(5)]


@pytest.mark.parametrize("value", NO_KEYS, ids=lambda value: type(value).__name__)
def test_values_that_are_no_keys(value: object) -> None:
    """Booleans, floats, NULL and what is no value at all are refused."""
    with pytest.raises(KeyValueError, match=r"^expected "):
        normalise(value)


INTEGER, TEXT = KeyType(KeyKind.INTEGER), KeyType(KeyKind.TEXT, longest=5)
MONEY = KeyType(KeyKind.DECIMAL, places=2)
SPELLED = KeyType(KeyKind.UUID, spelled=True)
CLOCK = KeyType(KeyKind.TIMESTAMP, zone=Zone.NAIVE, places=3)
INSTANT = KeyType(KeyKind.TIMESTAMP, zone=Zone.AWARE)
FIXED = KeyType(KeyKind.BYTES, longest=2, shortest=2)

REFUSED: list[tuple[KeyType, object, str]] = [
    (INTEGER, "5", "expected an integer, got str '5'"),
    (INTEGER, True, "expected an integer, got bool True"),
    (INTEGER, 5.0, "expected an integer, got float 5.0"),
    (INTEGER, Decimal("5.5"), "expected an integer, got Decimal Decimal('5.5')"),
    (INTEGER, Number.ONE, "expected an integer, got Number <Number.ONE: 1>"),
    (INTEGER, None, "expected an integer, got NULL"),
    (INTEGER, 10**1000, "a number of more than 1000 digits cannot be a key"),
    (MONEY, Decimal("1.005"), "1.005 has more than the 2 decimal places that the column keeps"),
    (MONEY, Decimal("NaN"), "NaN cannot be a key"),
    (MONEY, Decimal("-Infinity"), "-Infinity cannot be a key"),
    (MONEY, Decimal("sNaN"), "sNaN cannot be a key"),
    (MONEY, Decimal("1E+9999"), "a number of more than 1000 digits cannot be a key"),
    (MONEY, 1.5, "expected an integer, got float 1.5"),
    (TEXT, 5, "expected text, got int 5"),
    (TEXT, b"a", "expected text, got bytes"),
    (TEXT, Word.RED, "expected text, got Word <Word.RED: 'red'>"),
    (TEXT, Colour.RED, "expected text, got Colour"),
    (TEXT, "sixsix", "6 characters do not fit: the column holds 5"),
    (TEXT, "a\0", "text with a NUL character cannot be a key"),
    (TEXT, "\ud800", "text with a lone surrogate cannot be a key"),
    (KeyType(KeyKind.UUID), str(SOME_UUID), f"expected a UUID, got str '{SOME_UUID}'"),
    (
        SPELLED,
        SOME_UUID.hex,
        "expected a UUID in its canonical form (lower case, with hyphens), got str",
    ),
    (KeyType(KeyKind.DATE), NAIVE, f"expected a date, got datetime {NAIVE!r}"),
    (INSTANT, date(2024, 1, 2), "expected a timestamp, got date datetime.date(2024, 1, 2)"),
    (
        INSTANT,
        NAIVE,
        f"expected a timestamp with a time zone, got one without a time zone: {NAIVE}",
    ),
    (
        CLOCK,
        AWARE,
        f"expected a timestamp without a time zone, got one with a time zone: {AWARE}",
    ),
    (CLOCK, NAIVE, f"{NAIVE} has more than the 3 digits of a second that the column keeps"),
    (
        INSTANT,
        datetime.min.replace(tzinfo=timezone(timedelta(hours=2))),
        "this timestamp cannot be a key: it has no UTC time",
    ),
    (FIXED, b"a", "the column pads 1 bytes to 2: give the key in full"),
    (FIXED, b"abc", "3 bytes do not fit: the column holds 2"),
    (FIXED, "ab", "expected bytes, got str 'ab'"),
]


@pytest.mark.parametrize(("key_type", "value", "sentence"), REFUSED)
def test_values_that_a_column_does_not_keep(
    key_type: KeyType, value: object, sentence: str
) -> None:
    """A value of another type, or one the database would round or cut, is an error."""
    with pytest.raises(KeyValueError) as caught:
        key_type.normalise(value)
    assert str(caught.value).startswith(sentence)


ACCEPTED: list[tuple[KeyType, object, KeyValue]] = [
    (INTEGER, Decimal("5.0"), 5),
    (MONEY, 5, 5),
    (MONEY, Decimal("5.10"), Decimal("5.1")),
    (MONEY, Decimal("5.1000"), Decimal("5.1")),
    (TEXT, "fünf5", "fünf5"),
    (SPELLED, str(SOME_UUID), SOME_UUID),
    (SPELLED, SOME_UUID, SOME_UUID),
    (KeyType(KeyKind.DATE), date(2024, 1, 2), date(2024, 1, 2)),
    (CLOCK, NAIVE.replace(microsecond=5000), NAIVE.replace(microsecond=5000)),
    (INSTANT, AWARE, AWARE),
    (FIXED, b"ab", b"ab"),
]


@pytest.mark.parametrize(("key_type", "value", "normal"), ACCEPTED)
def test_values_that_a_column_keeps(key_type: KeyType, value: object, normal: KeyValue) -> None:
    """What the column stores exactly is accepted, in its normal form."""
    got = key_type.normalise(value)
    assert (got, type(got)) == (normal, type(normal))


def test_long_decimals_are_not_rounded_by_the_context() -> None:
    """The precision of the thread's decimal context plays no part."""
    with localcontext(prec=3):
        assert normalise(Decimal("1234567.125")) == Decimal("1234567.125")


CANONICAL: list[tuple[Key, bytes]] = [
    ((5,), b"5"),
    ((-5,), b"-5"),
    ((0,), b"0"),
    ((2**64,), b"18446744073709551616"),
    ((Decimal("0.5"),), b"n:0.5"),
    ((Decimal("-12.25"),), b"n:-12.25"),
    (("5",), b"t:5"),
    (("Zoë",), b"t:Zo\xc3\xab"),
    (("",), b"t:"),
    ((SOME_UUID,), b"u:6ba7b8109dad11d180b400c04fd430c8"),
    ((date(2024, 1, 2),), b"d:2024-01-02"),
    ((date(1, 1, 1),), b"d:0001-01-01"),
    ((NAIVE,), b"s:2024-01-02T03:04:05.000006"),
    ((NAIVE.replace(microsecond=0),), b"s:2024-01-02T03:04:05.000000"),
    ((AWARE,), b"s:2024-01-02T03:04:05.000006Z"),
    ((b"\x00t",), b"b:\x00t"),
    ((5, "ab"), b"c:1:54:t:ab"),
    ((1, 2, 3), b"c:1:11:21:3"),
]


@pytest.mark.parametrize(("key", "form"), CANONICAL)
def test_the_canonical_form_is_pinned(key: Key, form: bytes) -> None:
    """These bytes decide where rows are: they may never change."""
    assert encode(key) == form


@pytest.mark.parametrize("key", [(), (True,), (1.5,), (None,), (1, Number.ONE)], ids=repr)
def test_only_normalised_keys_have_a_canonical_form(key: Any) -> None:
    """A value that skipped normalisation is an error, never another shard."""
    with pytest.raises(KeyValueError):
        encode(key)


@given(VALUES)
def test_normalising_twice_changes_nothing(value: object) -> None:
    """The normal form is its own normal form."""
    once = normalise(value)
    assert normalise(once) == once
    assert type(normalise(once)) is type(once)


@given(KEYS, KEYS)
def test_different_keys_have_different_forms(a: Key, b: Key) -> None:
    """The canonical form is injective: equal bytes mean equal keys."""
    assert (encode(a) == encode(b)) == (a == b)


@given(st.lists(st.binary(max_size=4), max_size=3), st.lists(st.binary(max_size=4), max_size=3))
def test_composite_keys_cannot_be_confused(a: list[bytes], b: list[bytes]) -> None:
    """No way of cutting the same bytes into columns gives the same form."""
    left: Key = (1, *a)
    right: Key = (1, *b)
    assert (encode(left) == encode(right)) == (left == right)


@given(VALUES)
def test_a_value_and_its_type_agree_on_the_family(value: object) -> None:
    """What `family_of` says of a value is the family of one of the types that take it."""
    normal = normalise(value)
    types = [KeyType(kind) for kind in KeyKind if kind is not KeyKind.TIMESTAMP]
    types += [KeyType(KeyKind.TIMESTAMP, zone=zone) for zone in Zone]
    takers = set()
    for key_type in types:
        try:
            key_type.normalise(normal)
        except KeyValueError:
            continue
        takers.add(key_type.family)
    assert takers == {family_of(normal)}
