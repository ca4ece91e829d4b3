r"""Shard key values: their types, their normal form, their bytes.

A key is normalised before anything looks at it, so that values which one column
cannot tell apart (``5``, ``Decimal("5.0")``, a numpy integer) are one key, and values
which it can tell apart never are.

The canonical form
------------------
`encode` turns a normalised key into bytes; sharding functions and the directory
depend on nothing else.  It is stable for ever, and defined as follows so that other
languages can implement it.  A key of one column is

=========  ====================================================================
integer    ASCII decimal digits, ``-`` in front if negative, no leading zeros, no
           ``+``.  Decimals without a fraction are integers: ``5.00`` is ``5``
decimal    ``n:`` and ASCII digits with ``.`` between whole and fraction, ``-`` in
           front if negative, no exponent, no trailing zeros, at least one digit
           before the point: ``n:0.5``
text       ``t:`` and the UTF-8 bytes, not Unicode-normalised
UUID       ``u:`` and 32 lower-case hexadecimal digits
date       ``d:`` and ``YYYY-MM-DD``
timestamp  ``s:`` and ``YYYY-MM-DDTHH:MM:SS.ffffff``, always with six digits of
           microseconds; one with a time zone is converted to UTC and ends in ``Z``
bytes      ``b:`` and the bytes themselves
=========  ====================================================================

A key of several columns is ``c:`` and then, for each column in the order of the map,
the length in bytes of its form above in ASCII decimal, ``:``, and that form:
``(5, "ab")`` is ``c:1:54:t:ab``.

The bucket of a key
-------------------
``xxh64(canonical form, seed 0)`` is read as an unsigned 64-bit integer; the bucket is
that integer modulo the number of buckets.  For integer keys the hash is the one of
Vitess's ``xxhash`` vindex, whose keyspace id is the same 8 bytes in little-endian order.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from router.shardmap.columns import UnsupportedKeyTypeError, key_type
from router.shardmap.functions.protocol import Key, KeyValue
from router.shardmap.keytypes import KeyKind, KeyType, KeyValueError, Zone, unexpected

__all__ = [
    "KeyKind",
    "KeyType",
    "KeyValueError",
    "UnsupportedKeyTypeError",
    "Zone",
    "encode",
    "family_of",
    "key_type",
    "normalise",
]


def normalise(value: object) -> KeyValue:
    """Normalise a key whose column is not known, by its Python type alone.

    Raises
    ------
    KeyValueError
        If values of this type cannot be shard keys.
    """
    for types, plain in _BY_PYTHON_TYPE:
        if isinstance(value, types):
            return plain.normalise(value)
    raise unexpected("a key (integer, decimal, text, UUID, date, timestamp or bytes)", value)


def encode(key: Key) -> bytes:
    """Return the canonical form of a normalised key, as the module describes it.

    Raises
    ------
    KeyValueError
        If the key is empty or holds a value that was not normalised.
    """
    if len(key) == 1:
        return _encode_value(key[0])
    if not key:
        raise KeyValueError("a key has at least one value")
    parts = [_encode_value(value) for value in key]
    return b"c:" + b"".join(b"%d:%s" % (len(part), part) for part in parts)


def family_of(value: KeyValue) -> str:
    """Name what a normalised value compares with, as `KeyType.family` does for columns."""
    if isinstance(value, datetime):
        zone = Zone.NAIVE if value.tzinfo is None else Zone.AWARE
        return KeyType(KeyKind.TIMESTAMP, zone=zone).family
    return next(t.family for types, t in _BY_PYTHON_TYPE if isinstance(value, types))


def _encode_value(value: KeyValue) -> bytes:
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise KeyValueError(f"{type(value).__name__} is not a normalised key value")
    return encoder(value)


def _encode_timestamp(value: datetime) -> bytes:
    text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"s:{text}{'' if value.tzinfo is None else 'Z'}".encode()


# datetime before date, which it subclasses; bool is refused by the normaliser of integers.
_BY_PYTHON_TYPE: tuple[tuple[tuple[type, ...], KeyType], ...] = (
    ((numbers.Integral,), KeyType(KeyKind.INTEGER)),
    ((Decimal,), KeyType(KeyKind.DECIMAL)),
    ((str,), KeyType(KeyKind.TEXT)),
    ((UUID,), KeyType(KeyKind.UUID)),
    ((datetime,), KeyType(KeyKind.TIMESTAMP)),
    ((date,), KeyType(KeyKind.DATE)),
    ((bytes, bytearray, memoryview), KeyType(KeyKind.BYTES)),
)

_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    int: lambda value: b"%d" % value,
    Decimal: lambda value: f"n:{value:f}".encode(),
    str: lambda value: b"t:" + value.encode(),
    UUID: lambda value: b"u:" + value.hex.encode(),
    date: lambda value: f"d:{value.isoformat()}".encode(),
    datetime: _encode_timestamp,
    bytes: lambda value: b"b:" + value,
}
