"""Which column types can be shard keys."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from router.shardmap.keys import KeyKind, KeyType, UnsupportedKeyTypeError, Zone, key_type


class Shouting(sa.TypeDecorator[str]):
    """A type that stores another value than it is given."""

    impl = sa.String
    cache_ok = True


NAIVE = KeyType(KeyKind.TIMESTAMP, zone=Zone.NAIVE)
SUPPORTED: list[tuple[Any, KeyType]] = [
    (sa.Integer(), KeyType(KeyKind.INTEGER)),
    (sa.SmallInteger(), KeyType(KeyKind.INTEGER)),
    (sa.BigInteger(), KeyType(KeyKind.INTEGER)),
    (mysql.BIGINT(unsigned=True), KeyType(KeyKind.INTEGER)),
    (sa.Numeric(), KeyType(KeyKind.DECIMAL)),
    (sa.Numeric(10), KeyType(KeyKind.DECIMAL, places=0)),
    (sa.Numeric(10, 2), KeyType(KeyKind.DECIMAL, places=2)),
    (mysql.DECIMAL(10, 2), KeyType(KeyKind.DECIMAL, places=2)),
    (sa.String(7), KeyType(KeyKind.TEXT, longest=7)),
    (sa.Text(), KeyType(KeyKind.TEXT)),
    (sa.Unicode(7), KeyType(KeyKind.TEXT, longest=7)),
    (mysql.VARCHAR(7), KeyType(KeyKind.TEXT, longest=7)),
    (sa.Uuid(), KeyType(KeyKind.UUID)),
    (sa.UUID(as_uuid=False), KeyType(KeyKind.UUID, spelled=True)),
    (postgresql.UUID(), KeyType(KeyKind.UUID)),
    (sa.Date(), KeyType(KeyKind.DATE)),
    (sa.DateTime(), NAIVE),
    (sa.DateTime(timezone=True), KeyType(KeyKind.TIMESTAMP, zone=Zone.AWARE)),
    (sqlite.DATETIME(), NAIVE),  # type: ignore[no-untyped-call]
    (mysql.DATETIME(fsp=3), KeyType(KeyKind.TIMESTAMP, zone=Zone.NAIVE, places=3)),
    (
        postgresql.TIMESTAMP(timezone=True, precision=0),
        KeyType(KeyKind.TIMESTAMP, zone=Zone.AWARE, places=0),
    ),
    (sa.LargeBinary(), KeyType(KeyKind.BYTES)),
    (postgresql.BYTEA(), KeyType(KeyKind.BYTES)),
    (sa.VARBINARY(9), KeyType(KeyKind.BYTES, longest=9)),
    (sa.BINARY(16), KeyType(KeyKind.BYTES, longest=16, shortest=16)),
]


@pytest.mark.parametrize(("sa_type", "expected"), SUPPORTED, ids=lambda value: repr(value))
def test_types_that_can_be_keys(sa_type: Any, expected: KeyType) -> None:
    """Generic types, and the dialects' own that subclass them."""
    assert key_type(sa_type) == expected


UNSUPPORTED: list[tuple[Any, str]] = [
    (sa.CHAR(3), "pad"),
    (sa.NCHAR(3), "pad"),
    (mysql.CHAR(3), "pad"),
    (sa.BINARY(), "length"),
    (sa.Float(), "floating point"),
    (sa.Double(), "floating point"),
    (mysql.DOUBLE(), "floating point"),
    (sa.Numeric(10, 2, asdecimal=False), "floating point"),
    (sa.Enum("a", "b"), "enums"),
    (postgresql.ENUM("a", name="e"), "enums"),
    (mysql.ENUM("a"), "enums"),
    (mysql.SET("a"), "unequal texts"),
    (postgresql.CITEXT(), "unequal texts"),
    (Shouting(), "TypeDecorator"),
    (sa.Interval(), "TypeDecorator"),
    (sa.PickleType(), "TypeDecorator"),
    (sa.Boolean(), "only integers"),
    (sa.Time(), "only integers"),
    (sa.JSON(), "only integers"),
    (sa.ARRAY(sa.Integer), "only integers"),
    (postgresql.INET(), "only integers"),
    (sa.types.NullType(), "only integers"),
]


@pytest.mark.parametrize(("sa_type", "reason"), UNSUPPORTED, ids=lambda value: repr(value))
def test_types_that_cannot_be_keys(sa_type: Any, reason: str) -> None:
    """Types that pad, round or convert are refused by name, with the reason."""
    with pytest.raises(UnsupportedKeyTypeError, match=reason) as caught:
        key_type(sa_type)
    assert type(sa_type).__name__ in str(caught.value)
