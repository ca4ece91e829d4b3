"""What a shard key column holds, and the normal form of its values."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

from router.shardmap.functions.protocol import KeyValue

_MOST_DIGITS = 1000
_TOO_LARGE = 10**_MOST_DIGITS


class KeyValueError(ValueError):
    """A value that its shard key column cannot hold exactly; the message is one sentence."""


class KeyKind(Enum):
    """The kinds of shard keys; the value is the word used in messages."""

    INTEGER = "an integer"
    DECIMAL = "a decimal number"
    TEXT = "text"
    UUID = "a UUID"
    DATE = "a date"
    TIMESTAMP = "a timestamp"
    BYTES = "bytes"


class Zone(Enum):
    """Whether the timestamps of a column carry a time zone."""

    NAIVE = "without a time zone"
    AWARE = "with a time zone"


@dataclass(frozen=True, slots=True)
class KeyType:
    """What a shard key column holds: its kind and what else decides which values fit.

    Parameters
    ----------
    kind:
        The kind of every value, apart from whole decimals, which become integers.
    longest, shortest:
        Bounds of the length of text (characters) or bytes; None is unbounded.
    places:
        Digits after the point that the column keeps, of a number or of a second.
    zone:
        For timestamps only; None accepts both.
    spelled:
        For UUIDs only: the column also takes their canonical text.
    """

    kind: KeyKind
    longest: int | None = None
    shortest: int = 0
    places: int | None = None
    zone: Zone | None = None
    spelled: bool = False

    @property
    def family(self) -> str:
        """Name what the column's values compare with; equal in all tables of a keyspace."""
        if self.kind in (KeyKind.INTEGER, KeyKind.DECIMAL):
            return "a number"
        return f"{self.kind.value} {self.zone.value}" if self.zone else self.kind.value

    def normalise(self, value: object) -> KeyValue:
        """Return `value` in the form in which equal keys are equal.

        Raises
        ------
        KeyValueError
            If the column would refuse the value, round it or cut it.
        """
        return _NORMALISERS[self.kind](self, value)


def unexpected(wanted: str, value: object) -> KeyValueError:
    """Return the error for a value that is not `wanted`."""
    if value is None:
        return KeyValueError(f"expected {wanted}, got NULL")
    shown = repr(value) if isinstance(value, str | int | float | Decimal | UUID | date) else ""
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return KeyValueError(f"expected {wanted}, got {type(value).__name__} {shown}".rstrip())


def _integer(key_type: KeyType, value: object) -> int:
    if type(value) is int:
        if abs(value) >= _TOO_LARGE:
            raise KeyValueError(f"a number of more than {_MOST_DIGITS} digits cannot be a key")
        return value
    if isinstance(value, Decimal):
        number = _decimal(key_type, value)
        if isinstance(number, int):
            return number
    elif not isinstance(value, bool | Enum) and isinstance(value, numbers.Integral):
        return _integer(key_type, int(value))
    raise unexpected("an integer", value)


def _decimal(key_type: KeyType, value: object) -> int | Decimal:
    if not isinstance(value, Decimal):
        return _integer(key_type, value)
    if not value.is_finite():
        raise KeyValueError(f"{value} cannot be a key")
    extent = max(abs(value.adjusted()), len(value.as_tuple().digits))
    if value and extent >= _MOST_DIGITS:
        raise KeyValueError(f"a number of more than {_MOST_DIGITS} digits cannot be a key")
    # Not Decimal.normalize(), which rounds to the precision of the thread's context.
    whole, _, fraction = format(value, "f").partition(".")
    fraction = fraction.rstrip("0")
    if not fraction:
        return int(whole)
    if key_type.places is not None and len(fraction) > key_type.places:
        raise KeyValueError(
            f"{value} has more than the {key_type.places} decimal places that the column keeps"
        )
    return Decimal(f"{whole}.{fraction}")


def _text(key_type: KeyType, value: object) -> str:
    if not isinstance(value, str) or isinstance(value, Enum):
        raise unexpected("text", value)
    text = str.__str__(value)
    if "\0" in text:
        raise KeyValueError("text with a NUL character cannot be a key")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise KeyValueError("text with a lone surrogate cannot be a key")
    _check_length(key_type, len(text), "characters")
    return text


def _bytes(key_type: KeyType, value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise unexpected("bytes", value)
    data = bytes(value)
    _check_length(key_type, len(data), "bytes")
    return data


def _check_length(key_type: KeyType, length: int, unit: str) -> None:
    if key_type.longest is not None and length > key_type.longest:
        raise KeyValueError(f"{length} {unit} do not fit: the column holds {key_type.longest}")
    if length < key_type.shortest:
        raise KeyValueError(
            f"the column pads {length} {unit} to {key_type.shortest}: give the key in full"
        )


def _uuid(key_type: KeyType, value: object) -> UUID:
    if isinstance(value, UUID):
        return UUID(int=value.int)
    if not (key_type.spelled and isinstance(value, str)):
        raise unexpected("a UUID", value)
    try:
        parsed = UUID(value)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != value:
        raise unexpected("a UUID in its canonical form (lower case, with hyphens)", value)
    return parsed


def _date(_: KeyType, value: object) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise unexpected("a date", value)
    return date(value.year, value.month, value.day)


def _timestamp(key_type: KeyType, value: object) -> datetime:
    if not isinstance(value, datetime):
        raise unexpected("a timestamp", value)
    moment = _plain_datetime(value)
    zone = Zone.NAIVE if moment.tzinfo is None else Zone.AWARE
    if key_type.zone not in (None, zone):
        raise KeyValueError(f"expected {key_type.family}, got one {zone.value}: {moment}")
    if key_type.places is not None and moment.microsecond % 10 ** (6 - key_type.places):
        raise KeyValueError(
            f"{moment} has more than the {key_type.places} digits of a second that the column keeps"
        )
    return moment


def _plain_datetime(value: datetime) -> datetime:
    """Strip subclasses, folds and zones: an instant in UTC, or a reading of a wall clock."""
    if getattr(value, "nanosecond", 0):
        raise KeyValueError("a timestamp with nanoseconds cannot be a key")
    try:
        moment = value if value.utcoffset() is None else value.astimezone(UTC)
        zone = None if value.utcoffset() is None else UTC
        clock = (moment.hour, moment.minute, moment.second, moment.microsecond)
        return datetime(moment.year, moment.month, moment.day, *clock, tzinfo=zone)
    except (OverflowError, TypeError, ValueError) as error:
        # OverflowError: no such instant in UTC; the others: not-a-time values of other libraries.
        raise KeyValueError("this timestamp cannot be a key: it has no UTC time") from error


_NORMALISERS: Mapping[KeyKind, Callable[[KeyType, object], KeyValue]] = {
    KeyKind.INTEGER: _integer,
    KeyKind.DECIMAL: _decimal,
    KeyKind.TEXT: _text,
    KeyKind.UUID: _uuid,
    KeyKind.DATE: _date,
    KeyKind.TIMESTAMP: _timestamp,
    KeyKind.BYTES: _bytes,
}
