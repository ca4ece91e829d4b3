"""Which columns can be shard keys: SQLAlchemy types -> `KeyType`.

Refused are types with which a database may keep another value than the one that was
hashed (CHAR pads, floats round, CITEXT and enums compare unequal values equal), and
types whose Python values this library cannot foresee (TypeDecorator).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import types as sa
from sqlalchemy.types import TypeEngine

from router.shardmap.keytypes import KeyKind, KeyType, Zone

_PADDED = frozenset({"CHAR", "NCHAR"})
_NOT_PLAIN_TEXT = frozenset({"CITEXT", "SET", "ENUM", "enum"})


class UnsupportedKeyTypeError(TypeError):
    """A column type that cannot be a shard key; the message says why."""


def key_type(sa_type: TypeEngine[Any]) -> KeyType:
    """Return what the columns of `sa_type` hold as shard keys.

    Raises
    ------
    UnsupportedKeyTypeError
        If values of the type cannot be hashed reliably.
    """
    for generic, build in _BUILDERS.items():
        if isinstance(sa_type, generic):
            return build(sa_type)
    raise _unsupported(
        sa_type, "only integers, decimals, text, UUIDs, dates, timestamps and bytes can"
    )


def _unsupported(sa_type: TypeEngine[Any], reason: str) -> UnsupportedKeyTypeError:
    return UnsupportedKeyTypeError(f"{type(sa_type).__name__} cannot be a shard key: {reason}")


def _refuse_enum(sa_type: Any) -> KeyType:
    raise _unsupported(sa_type, "databases store and compare enums in different ways")


def _refuse_decorator(sa_type: Any) -> KeyType:
    raise _unsupported(sa_type, "a TypeDecorator may store another value than the key")


def _refuse_float(sa_type: Any) -> KeyType:
    raise _unsupported(sa_type, "floating point numbers are not exact")


def _numeric(sa_type: Any) -> KeyType:
    if not sa_type.asdecimal:
        return _refuse_float(sa_type)
    # NUMERIC(10) is NUMERIC(10, 0) in SQL; NUMERIC alone keeps whatever it is given.
    scale = 0 if sa_type.scale is None and sa_type.precision is not None else sa_type.scale
    return KeyType(KeyKind.DECIMAL, places=scale)


def _string(sa_type: Any) -> KeyType:
    if sa_type.__visit_name__ in _PADDED:
        raise _unsupported(sa_type, "databases pad it with blanks; use String")
    if sa_type.__visit_name__ in _NOT_PLAIN_TEXT:
        raise _unsupported(sa_type, "it takes unequal texts for equal")
    return KeyType(KeyKind.TEXT, longest=sa_type.length)


def _binary(sa_type: Any) -> KeyType:
    fixed = sa_type.__visit_name__ == "BINARY"
    if fixed and not sa_type.length:
        raise _unsupported(sa_type, "it needs a length")
    return KeyType(KeyKind.BYTES, longest=sa_type.length, shortest=sa_type.length if fixed else 0)


def _timestamp(sa_type: Any) -> KeyType:
    # `fsp` is MySQL's name for the digits of a second, `precision` PostgreSQL's.
    places = getattr(sa_type, "fsp", None)
    places = getattr(sa_type, "precision", None) if places is None else places
    zone = Zone.AWARE if sa_type.timezone else Zone.NAIVE
    return KeyType(KeyKind.TIMESTAMP, zone=zone, places=places)


# Looked through in this order: a subclass stands before its base.
_BUILDERS: Mapping[type[TypeEngine[Any]], Callable[[Any], KeyType]] = {
    sa.TypeDecorator: _refuse_decorator,
    sa.Enum: _refuse_enum,
    sa.Float: _refuse_float,
    sa.Integer: lambda _: KeyType(KeyKind.INTEGER),
    sa.Numeric: _numeric,
    sa.String: _string,
    sa.Uuid: lambda sa_type: KeyType(KeyKind.UUID, spelled=not sa_type.as_uuid),
    sa.Date: lambda _: KeyType(KeyKind.DATE),
    sa.DateTime: _timestamp,
    sa.LargeBinary: _binary,
    sa.BINARY: _binary,
    sa.VARBINARY: _binary,
}
