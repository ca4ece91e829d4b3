"""Random statements over the tables of `tests.session.merging`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    Select,
    and_,
    case,
    distinct,
    extract,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.orm import joinedload

from tests.session.merging import Fact, Parent

F, P = Fact, Parent

PLAIN: list[Callable[[], Any]] = [
    lambda: F.k, lambda: F.n, lambda: F.small, lambda: F.i, lambda: F.big, lambda: F.dec,
    lambda: F.wide, lambda: F.free, lambda: F.f, lambda: F.t, lambda: F.d, lambda: F.ts,
    lambda: F.tz, lambda: F.flag, lambda: F.u, lambda: F.raw, lambda: F.colour,
]  # fmt: skip
NUMBERS = [lambda: F.small, lambda: F.i, lambda: F.big, lambda: F.dec, lambda: F.wide,
           lambda: F.free, lambda: F.i + F.small, lambda: F.dec * 2, lambda: F.i * F.big,
           lambda: case((F.i > 2, 1), else_=0), lambda: case((F.i > 2, F.dec))]  # fmt: skip
RANKED = [
    lambda: F.n, lambda: F.i, lambda: F.big, lambda: F.dec, lambda: F.wide, lambda: F.free,
    lambda: F.f, lambda: F.t, lambda: F.d, lambda: F.ts, lambda: F.tz, lambda: F.i - 3,
    lambda: func.lower(F.t), lambda: extract("day", F.d),
]  # fmt: skip
EXPRESSIONS = [
    *PLAIN,
    lambda: F.i + 1, lambda: F.i - F.small, lambda: F.i * -2, lambda: func.lower(F.t),
    lambda: func.coalesce(F.i, 0), lambda: func.coalesce(F.t, "m"), lambda: F.i > 0,
    lambda: extract("month", F.d), lambda: func.length(F.t),
    lambda: F.t.concat("x"), lambda: case((F.i > 2, "high"), else_="low"),
]  # fmt: skip

# Of equal numbers that look different one database shows any.
KEYS = [one for one in EXPRESSIONS if one() is not F.free]


def one_of(generator: random.Random, pool: list[Callable[[], Any]]) -> Any:
    """Return one of the expressions of a pool."""
    return generator.choice(pool)()


def ordering(generator: random.Random, expression: Any) -> Any:
    """Return a clause of ORDER BY, in some direction."""
    way = generator.randrange(6)
    if way == 0:
        return expression.desc()
    if way == 1:
        return expression.asc()
    if way == 2 and generator.random() < 0.5:
        return expression.desc().nulls_last()
    if way == 3 and generator.random() < 0.5:
        return expression.nulls_first()
    return expression


def where(generator: random.Random, statement: Select[Any]) -> Select[Any]:
    """Return the statement with some condition, perhaps one that nothing fulfils."""
    condition = generator.choice(
        [
            F.n >= 0,
            F.n < 9,
            F.i > 0,
            F.i > 100,
            F.n < 3,
            F.t.is_not(None),
            F.k.in_([1, 2, 7]),
            F.k == 3,
        ]
    )
    return statement.where(condition)


def plain(generator: random.Random) -> tuple[Select[Any], bool]:
    """Return a SELECT of rows, ordered to the last one or not at all."""
    g = generator
    chosen = [one_of(g, EXPRESSIONS) for _ in range(g.randrange(1, 4))]
    if g.random() < 0.3:
        chosen[g.randrange(len(chosen))] = g.choice([F, P])
    statement = select(*chosen)
    if any(one is P for one in chosen) or g.random() < 0.2:
        statement = statement.select_from(F).join(F.parent)
    if any(one is F for one in chosen) and g.random() < 0.4:
        statement = statement.options(joinedload(F.parent))
    statement = where(g, statement)
    ordered = g.random() < 0.8
    if ordered:
        keys = [one_of(g, [*EXPRESSIONS, lambda: -F.i]) for _ in range(g.randrange(3))]
        statement = statement.order_by(*(ordering(g, one) for one in keys), F.k, F.n.desc())
        if g.random() < 0.5:
            statement = statement.limit(g.randrange(12))
        if g.random() < 0.3:
            statement = statement.limit(g.randrange(30)).offset(g.randrange(12))
    return statement, ordered


def distinct_rows(generator: random.Random) -> tuple[Select[Any], bool]:
    """Return a SELECT DISTINCT, ordered by all of its columns or not at all."""
    g = generator
    chosen = [one_of(g, KEYS) for _ in range(g.randrange(1, 3))]
    statement = where(g, select(*chosen)).distinct()
    ordered = g.random() < 0.6
    if ordered:
        statement = statement.order_by(*(ordering(g, one) for one in chosen))
        if g.random() < 0.4:
            statement = statement.limit(g.randrange(1, 9)).offset(g.randrange(4))
    return statement, ordered


def aggregate(generator: random.Random) -> Any:
    """Return an aggregate, perhaps of some rows only, perhaps in an expression."""
    g = generator
    number = one_of(g, NUMBERS)
    return g.choice(
        [
            lambda: func.count(),
            lambda: func.count(one_of(g, PLAIN)),
            lambda: func.sum(number),
            lambda: func.sum(number),
            lambda: func.avg(number),
            lambda: func.avg(number),
            lambda: func.min(one_of(g, RANKED)),
            lambda: func.max(one_of(g, RANKED)),
            lambda: func.count(distinct(F.k)),
            lambda: func.coalesce(func.sum(number), 0),
            lambda: func.max(F.i) - func.min(F.i),
            lambda: func.sum(F.i) + func.count() * 2,
            lambda: func.sum(F.dec) * 3 - func.sum(F.i),
            lambda: (-func.sum(number)).label("minus"),
            lambda: func.coalesce(func.sum(F.dec), 0) - func.count(F.i),
        ]
    )()


def filtered(generator: random.Random, found: Any, dialect: str) -> Any:
    """Return an aggregate of some rows only, where the dialect can."""
    aggregate = getattr(found, "name", "") in ("count", "sum", "avg", "min", "max")
    if dialect != "mariadb" and aggregate and generator.random() < 0.3:
        return found.filter(F.n > 1)
    return found


def groups(generator: random.Random, dialect: str) -> tuple[Select[Any], bool]:
    """Return a SELECT with aggregates, over groups or over all rows."""
    g = generator
    keys = [one_of(g, KEYS) for _ in range(g.choice([0, 1, 1, 2]))]
    found = [filtered(g, aggregate(g), dialect) for _ in range(g.randrange(1, 4))]
    if dialect == "postgresql" and g.random() < 0.3:
        found.append(g.choice([func.bool_and, func.bool_or, func.every])(F.flag))
    shown = [*keys, *found]
    g.shuffle(shown)
    statement = where(g, select(*shown)).group_by(*keys)
    if g.random() < 0.4:
        statement = statement.having(_having(g))
    ordered = bool(keys) and g.random() < 0.7
    if ordered:
        first = [aggregate(g)] if g.random() < 0.5 else []
        statement = statement.order_by(*(ordering(g, one) for one in (*first, *keys)))
        if g.random() < 0.4:
            statement = statement.limit(g.randrange(1, 7)).offset(g.randrange(3))
    return statement, ordered or not keys


def _having(generator: random.Random) -> Any:
    g = generator
    first, second = (
        g.choice(
            [
                func.count() > g.randrange(4),
                func.sum(F.i) > g.randrange(-5, 5),
                func.max(F.i).is_not(None),
                func.sum(F.dec) - func.count() < 3,
                func.min(F.small) == -3,
                func.avg(F.i) >= 1,
            ]
        )
        for _ in range(2)
    )
    return g.choice([first, and_(first, second), or_(first, second), not_(first)])


def windows(generator: random.Random) -> tuple[Select[Any], bool]:
    """Return a SELECT with a window over rows of one shard key."""
    g = generator
    over = {"partition_by": g.choice([F.k, [F.k, F.flag]]), "order_by": F.n}
    window = g.choice([func.row_number(), func.sum(F.i), func.lag(F.i), func.max(F.d)]).over(**over)
    statement = where(g, select(F.n, window.label("w"), F.k))
    return statement.order_by(ordering(g, literal_column("2")), F.k, F.n), True
