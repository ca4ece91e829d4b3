"""What is known of the values of an expression before any of them was seen.

A merge compares values in Python, which is right only where Python's order and equality are
those of the database.  So it compares what the driver gives, before SQLAlchemy converts it,
and only values of the kinds named here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sqlalchemy import Column, Table, types
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    Case,
    Cast,
    CollationClause,
    ColumnClause,
    Extract,
    FunctionFilter,
    Grouping,
    Label,
    Over,
    TypeCoerce,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement

from router.hooks.results import variant
from router.rewrite.terms import Family, Terms, TextOrder


class Kind(Enum):
    """The kinds of values that can be compared outside of the database."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    UUID = "uuid"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Values:
    """What is known of the values of an expression.

    Parameters
    ----------
    kind:
        Their kind.
    ordered:
        Python orders what the driver gives as the database does.
    alike:
        Values that are equal for the database are equal in Python, look alike, and the
        other way round.
    plain:
        SQLAlchemy hands out what the driver gives.
    bits:
        The width of a whole number, which bounds arithmetic; 0 if it is not known.
    places:
        How many digits decimal numbers show behind the point, where all show as many.
    """

    kind: Kind
    ordered: bool = True
    alike: bool = True
    plain: bool = True
    bits: int = 64
    places: int | None = None


_EVERYWHERE: dict[type[types.TypeEngine[Any]], Values] = {
    **dict.fromkeys((types.Integer, types.INTEGER), Values(Kind.INTEGER, bits=32)),
    **dict.fromkeys((types.SmallInteger, types.SMALLINT), Values(Kind.INTEGER, bits=16)),
    **dict.fromkeys((types.BigInteger, types.BIGINT), Values(Kind.INTEGER)),
    **dict.fromkeys((types.Date, types.DATE), Values(Kind.DATE)),
    **dict.fromkeys((types.DateTime, types.DATETIME), Values(Kind.TIMESTAMP)),
    **dict.fromkeys((types.Boolean, types.BOOLEAN), Values(Kind.BOOLEAN, plain=False)),
    types.LargeBinary: Values(Kind.BYTES, plain=False),
}

_TEXT = (
    types.String, types.Text, types.Unicode, types.UnicodeText, types.VARCHAR, types.TEXT,
    types.NVARCHAR,
)  # fmt: skip
_DOUBLE = (types.Double, types.DOUBLE, types.DOUBLE_PRECISION)
_NUMERIC = (types.Numeric, types.NUMERIC, types.DECIMAL, mysql.NUMERIC, mysql.DECIMAL)

_OF_FAMILY: dict[Family, dict[type[types.TypeEngine[Any]], Values]] = {
    Family.POSTGRESQL: {
        **_EVERYWHERE,
        **dict.fromkeys((types.Float, types.FLOAT, types.REAL, *_DOUBLE), Values(Kind.FLOAT)),
        **dict.fromkeys((types.TIMESTAMP, postgresql.TIMESTAMP), Values(Kind.TIMESTAMP)),
        **dict.fromkeys((types.Time, types.TIME, postgresql.TIME), Values(Kind.TIME)),
        **dict.fromkeys((types.Uuid, types.UUID), Values(Kind.UUID, plain=False)),
        postgresql.BYTEA: Values(Kind.BYTES, plain=False),
    },
    Family.MYSQL: {
        **_EVERYWHERE,
        # FLOAT is sent rounded to six digits.
        **dict.fromkeys((*_DOUBLE, mysql.DOUBLE), Values(Kind.FLOAT)),
        mysql.DATETIME: Values(Kind.TIMESTAMP),
        types.VARBINARY: Values(Kind.BYTES, plain=False),
        # Perhaps unsigned, which bounds differences.
        **dict.fromkeys(
            (mysql.BIGINT, mysql.INTEGER, mysql.MEDIUMINT, mysql.SMALLINT, mysql.TINYINT),
            Values(Kind.INTEGER, bits=0),
        ),
    },
    # What the driver gives is what SQLite compares, whatever the column is called.
    Family.SQLITE: {
        **_EVERYWHERE,
        **dict.fromkeys((types.Date, types.DATE, sqlite.DATE), Values(Kind.DATE, plain=False)),
        **dict.fromkeys(
            (types.DateTime, types.DATETIME, types.TIMESTAMP, sqlite.DATETIME),
            Values(Kind.TIMESTAMP, plain=False),
        ),
        **dict.fromkeys((types.Time, types.TIME, sqlite.TIME), Values(Kind.TIME, plain=False)),
        **dict.fromkeys((types.Float, types.FLOAT, types.REAL, *_DOUBLE), Values(Kind.FLOAT)),
        **dict.fromkeys((types.Uuid, types.UUID), Values(Kind.UUID, plain=False)),
        types.BLOB: Values(Kind.BYTES, plain=False),
    },
}

_BY_CODE_POINTS = {
    Family.POSTGRESQL: {"C", "POSIX", "ucs_basic"},
    Family.MYSQL: set(),
    Family.SQLITE: {"BINARY"},
}


def values_of(expression: Any, terms: Terms) -> Values | None:
    """Return what is known of the values of `expression`, None if not enough."""
    for kind, read in _READERS:
        if isinstance(expression, kind):
            return read(expression, terms)
    return None


def values_of_type(type_: Any, terms: Terms) -> Values | None:
    """Return what is known of the values of a column of `type_`."""
    type_ = variant(type_, terms.family.value)
    if isinstance(type_, types.TypeDecorator):
        return _decorated(type_, terms)
    known = type(type_)
    if known in _TEXT:
        return _text(type_.collation, terms)
    if known is types.Enum and (terms.family is Family.SQLITE or not type_.native_enum):
        values = _text(type_.collation, terms)
        return values and replace(values, plain=False)
    if known in _NUMERIC:
        return _numeric(type_, terms)
    values = _OF_FAMILY[terms.family].get(known)
    if values is None or (values.kind is Kind.TIME and getattr(type_, "timezone", False)):
        return None
    if values.kind is Kind.FLOAT and type_.asdecimal:
        return replace(values, plain=False)
    return values


def _decorated(type_: Any, terms: Terms) -> Values | None:
    own = getattr(type(type_), "load_dialect_impl", None)
    if own is not types.TypeDecorator.load_dialect_impl:
        return None
    values = values_of_type(type_.impl_instance, terms)
    return values and replace(values, plain=False)


def _text(collation: str | None, terms: Terms) -> Values | None:
    if terms.family is Family.MYSQL:
        return None
    if collation is not None:
        known = collation in _BY_CODE_POINTS[terms.family]
        return Values(Kind.TEXT) if known else None
    # The default collation of a PostgreSQL database tells all texts apart.
    by_code_points = terms.text_order is TextOrder.CODE_POINTS
    if not by_code_points and terms.family is not Family.POSTGRESQL:
        return None
    return Values(Kind.TEXT, ordered=by_code_points)


def _numeric(type_: Any, terms: Terms) -> Values | None:
    if terms.family is Family.SQLITE:
        # Stored as a float, and rounded by SQLAlchemy.
        return Values(Kind.FLOAT, plain=False)
    fixed = type_.precision is not None or terms.family is Family.MYSQL
    places = (type_.scale or 0) if fixed else None
    return Values(Kind.DECIMAL, alike=fixed, plain=bool(type_.asdecimal), places=places)


# -- expressions -------------------------------------------------------------------------------


def _column(column: Any, terms: Terms) -> Values | None:
    if column.is_literal or len(column.base_columns) != 1:
        return None
    (root,) = column.base_columns
    if isinstance(root, Column):
        table: Any = root.table
        return values_of_type(root.type, terms) if isinstance(table, Table) else None
    return None if isinstance(root, ColumnClause) else values_of(root, terms)


def _bind(bind: Any, terms: Terms) -> Values | None:
    values = values_of_type(bind.type, terms)
    return values and replace(values, alike=values.kind is not Kind.DECIMAL and values.alike)


def _cast(cast: Any, terms: Terms) -> Values | None:
    values = values_of_type(cast.type, terms)
    if terms.family is Family.SQLITE and values is not None:
        # CAST makes numbers of dates, among others; they are compared as they come.
        return replace(values, plain=values.kind in (Kind.INTEGER, Kind.TEXT))
    return values


def _coerced(coerce: Any, terms: Terms) -> Values | None:
    values = values_of(coerce.clause, terms)
    return values and replace(values, plain=False)


def _unary(unary: Any, terms: Terms) -> Values | None:
    values = values_of(unary.element, terms)
    numbers = (Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT)
    if unary.operator is operators.neg and values is not None and values.kind in numbers:
        return values
    if unary.operator in (operators.inv, operators.is_true, operators.is_false):
        return Values(Kind.BOOLEAN, plain=False)
    return None


_COMPARISONS = (
    operators.eq, operators.ne, operators.lt, operators.le, operators.gt, operators.ge,
    operators.is_, operators.is_not,
)  # fmt: skip


def _binary(binary: Any, terms: Terms) -> Values | None:
    if binary.operator in _COMPARISONS:
        return Values(Kind.BOOLEAN, plain=False)
    if isinstance(binary.right, CollationClause):
        return _text(binary.right.collation, terms)
    left, right = values_of(binary.left, terms), values_of(binary.right, terms)
    if left is None or right is None:
        return None
    if binary.operator is operators.concat_op and left.kind is right.kind is Kind.TEXT:
        return replace(left, ordered=left.ordered and right.ordered)
    if binary.operator in (operators.add, operators.sub, operators.mul):
        return arithmetic(left, right, terms)
    if binary.operator is operators.mod and left.kind is right.kind is Kind.INTEGER:
        return left
    return None


def arithmetic(left: Values, right: Values, terms: Terms) -> Values | None:
    """Return what is known of the sum, difference or product of two numbers."""
    numbers = (Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT)
    if left.kind not in numbers or right.kind not in numbers or 0 in (left.bits, right.bits):
        return None
    kind = max(left.kind, right.kind, key=numbers.index)
    plain = left.plain and right.plain and terms.family is not Family.SQLITE
    alike = left.alike and right.alike
    if kind is Kind.INTEGER:
        return Values(kind, alike=alike, bits=max(left.bits, right.bits))
    return Values(kind, alike=alike and kind is Kind.FLOAT, plain=plain)


def common(found: list[Values | None]) -> Values | None:
    """Return what is known of a value that is one of several expressions."""
    first = found[0] if found else None
    if first is None or any(one is None or one.kind is not first.kind for one in found):
        return None
    known = [one for one in found if one is not None]
    return Values(
        first.kind,
        ordered=all(one.ordered for one in known),
        alike=all(one.alike for one in known) and first.kind is not Kind.DECIMAL,
        plain=all(one.plain for one in known),
        bits=max(one.bits for one in known),
    )


def _case(case: Any, terms: Terms) -> Values | None:
    if case.value is not None and values_of(case.value, terms) is None:
        return None
    results = [result for _, result in case.whens]
    if case.else_ is not None:
        results.append(case.else_)
    return common([values_of(one, terms) for one in results])


_WHOLE_FIELDS = frozenset("year quarter month week day dow doy isodow isoyear hour minute".split())


def _extract(extract: Any, _: Terms) -> Values | None:
    return Values(Kind.INTEGER) if extract.field.lower() in _WHOLE_FIELDS else None


# -- functions ---------------------------------------------------------------------------------

_COUNTING = frozenset("count row_number rank dense_rank ntile regr_count".split())
_LENGTHS = frozenset("char_length character_length length octet_length".split())
_CHOOSING = frozenset("coalesce greatest least nullif".split())
_SAME = frozenset("max min lag lead first_value last_value nth_value abs any_value".split())
_TEXTUAL = frozenset(
    "lower upper trim ltrim rtrim substr substring replace reverse left right lpad rpad".split()
)


def _function(function: Any, terms: Terms) -> Values | None:
    name = function.name.lower()
    arguments = list(function.clauses)
    if name in _COUNTING:
        return Values(Kind.INTEGER)
    if name in ("bool_and", "bool_or", "every"):
        return Values(Kind.BOOLEAN, plain=terms.family is Family.POSTGRESQL)
    if not arguments:
        return None
    first = values_of(arguments[0], terms)
    if name in _LENGTHS:
        return Values(Kind.INTEGER, bits=32)
    if name in _CHOOSING:
        return common([values_of(one, terms) for one in arguments])
    if name == "date_trunc" and terms.family is Family.POSTGRESQL and len(arguments) == 2:
        values = values_of(arguments[1], terms)
        return values if values is not None and values.kind is Kind.TIMESTAMP else None
    if name in _SAME:
        return first
    if name in _TEXTUAL and first is not None and first.kind is Kind.TEXT:
        return replace(first, plain=True)
    return _sum(name, first, terms)


def _sum(name: str, argument: Values | None, terms: Terms) -> Values | None:
    if argument is None or name not in ("sum", "avg"):
        return None
    if argument.kind is Kind.INTEGER:
        return _whole_sum(argument, terms) if name == "sum" else _average(terms)
    if argument.kind is Kind.DECIMAL:
        return argument if name == "sum" else _average(terms)
    return None


def _whole_sum(argument: Values, terms: Terms) -> Values:
    wide = argument.bits == 0 or argument.bits > 32
    if terms.family is Family.MYSQL or (terms.family is Family.POSTGRESQL and wide):
        return Values(Kind.DECIMAL, places=0)
    return Values(Kind.INTEGER)


def _average(terms: Terms) -> Values:
    kind = Kind.FLOAT if terms.family is Family.SQLITE else Kind.DECIMAL
    return Values(kind, alike=False)


def _inner(element: Any, terms: Terms) -> Values | None:
    return values_of(element.element, terms)


_READERS: tuple[tuple[Any, Callable[[Any, Terms], Values | None]], ...] = (
    (ColumnClause, _column),
    (Label, _inner),
    (Grouping, _inner),
    (TypeCoerce, _coerced),
    (Cast, _cast),
    (BindParameter, _bind),
    (Case, _case),
    (Extract, _extract),
    (FunctionFilter, lambda one, terms: values_of(one.func, terms)),
    (Over, lambda one, terms: values_of(one.element, terms)),
    (FunctionElement, _function),
    (UnaryExpression, _unary),
    (BinaryExpression, _binary),
)
