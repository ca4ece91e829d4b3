"""Numbers as the databases compute them: exact sums, quotients with their number of digits."""

from __future__ import annotations

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, ROUND_DOWN, Context, Decimal
from typing import Any

from router.errors import CrossShardError

EXACT = Context(prec=200_000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
"""Wide enough that no sum or product of numbers that a database holds is rounded."""

_LEAST_DIGITS, _MOST_DIGITS, _BASE_DIGITS = 16, 1000, 4
_WHOLE_IN_FLOATS = 2**53


def add(left: Any, right: Any) -> Any:
    """Return the exact sum."""
    return _exact(EXACT.add, int.__add__, left, right)


def subtract(left: Any, right: Any) -> Any:
    """Return the exact difference."""
    return _exact(EXACT.subtract, int.__sub__, left, right)


def multiply(left: Any, right: Any) -> Any:
    """Return the exact product."""
    return _exact(EXACT.multiply, int.__mul__, left, right)


def negate(value: Any) -> Any:
    """Return the number with the other sign; zero has none in databases."""
    return subtract(0, value)


def with_places(value: Any, places: int) -> Decimal:
    """Return a number that shows so many digits behind the point."""
    return EXACT.quantize(Decimal(value), Decimal(1).scaleb(-places))


def _exact(
    decimals: Callable[..., Decimal], whole: Callable[[int, int], int], left: Any, right: Any
) -> Any:
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        found: Decimal = decimals(left, right)
        return found if found else found.copy_abs()
    if type(left) is not int or type(right) is not int:
        raise unexpected(left if type(left) is not int else right)
    return whole(left, right)


def in_range(value: Any, bits: int) -> Any:
    """Return a whole number if the database can hold it."""
    if type(value) is int and not -(1 << bits - 1) <= value < 1 << bits - 1:
        what = f"the merged number {value} is out of the range of {bits} bits"
        raise CrossShardError("R301", what, fix="cast the column to a wider type")
    return value


def unexpected(value: Any) -> CrossShardError:
    """Return the error for a value that is not of the kind that its column promised."""
    what = f"a shard gave {type(value).__name__} {value!r} where a whole number was expected"
    return CrossShardError("R301", what, fix="store only numbers of the column's type")


def postgresql_average(total: Any, count: int) -> Decimal:
    """Return what PostgreSQL's avg() gives for exact numbers."""
    exact = Decimal(total)
    if not exact.is_finite():
        return exact
    scale = _postgresql_scale(exact, Decimal(count))
    # Halves are rounded away from zero.
    digits = (_whole(EXACT.scaleb(exact.copy_abs(), scale + 1)) // count + 5) // 10
    return _signed(Decimal(digits).scaleb(-scale, EXACT), exact)


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_DOWN, EXACT))


def _signed(value: Decimal, like: Decimal) -> Decimal:
    return value.copy_sign(like) if value else value


def _postgresql_scale(total: Decimal, count: Decimal) -> int:
    # At least 16 significant digits, estimated from the
    # first digits to the base of 10,000, and no fewer places than either number has.
    (weight, first), (other_weight, other_first) = map(_leading, (total, count))
    weight -= other_weight
    if first <= other_first:
        weight -= 1
    scale: int = _LEAST_DIGITS - weight * _BASE_DIGITS
    return min(max(scale, _places(total), _places(count), 0), _MOST_DIGITS)


def _leading(value: Decimal) -> tuple[int, int]:
    """Return the position and the value of the first digit to the base of 10,000."""
    if not value:
        return 0, 0
    weight = value.adjusted() // _BASE_DIGITS
    first = EXACT.scaleb(value.copy_abs(), -weight * _BASE_DIGITS)
    return weight, _whole(first)


def _places(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def mysql_average(total: Decimal, count: int, shown: Decimal) -> Decimal:
    """Return what MySQL's and MariaDB's AVG() gives for exact numbers.

    `shown` is any average of the same column, for the number of its digits.
    """
    # Quotients are cut off after a block of nine digits, then rounded.
    total, scale = Decimal(total), _places(shown)
    block = -(-scale // 9) * 9
    unit = 10 ** (block - scale)
    digits = (_whole(EXACT.scaleb(total.copy_abs(), block)) // count + unit // 2) // unit
    return _signed(Decimal(digits).scaleb(-scale, EXACT), total)


def sqlite_average(total: int, count: int, least: int, greatest: int) -> float:
    """Return what SQLite's avg() gives for whole numbers.

    SQLite adds floating point numbers; they are exact while no sum on the way can be larger
    than a float holds exactly.
    """
    for value in (total, least, greatest):
        if type(value) is not int:
            raise unexpected(value)
    if max(abs(least), abs(greatest)) * count >= _WHOLE_IN_FLOATS:
        what = "the average of so large numbers depends on the order in which they are added"
        raise CrossShardError("R301", what, fix="ask for sum() and count()")
    return total / count
