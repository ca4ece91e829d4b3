"""Values, expressions and conditions of generated statements."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    Integer,
    Numeric,
    String,
    and_,
    between,
    bindparam,
    case,
    cast,
    extract,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    text,
    tuple_,
)

from tests.oracle.rows import EPOCH, KEYS, MIXED, REGIONS, WORDS
from tests.oracle.schema import Size
from tests.oracle.sources import WEIGHTS, Source, kind_of, of_model

COMPARED = ("int", "text", "number", "real", "moment", "day", "bool", "size")
ADDED = ("int", "number", "real")


class Expressions:
    """Chooses parts of statements.

    Parameters
    ----------
    choose:
        Decides the structure.
    values:
        Decides the values; the same structure with other values has the same shape.
    dialect:
        One of `worlds.DIALECTS`.
    """

    def __init__(self, choose: random.Random, values: random.Random, dialect: str) -> None:
        self.choose = choose
        self.values = values
        # LIKE has no meaning in a collation where unequal texts are equal.
        self.dialect, _, folded = dialect.partition("-")
        self.likes = not folded
        self.params: dict[str, Any] = {}

    def chance(self, share: float) -> bool:
        """Return whether something of this likelihood happens."""
        return self.choose.random() < share

    def any_of(self, *makers: Any) -> Any:
        """Call one of the makers; a pair of a weight and a maker is called that much more."""
        pairs = [one if isinstance(one, tuple) else (1, one) for one in makers]
        weights, calls = zip(*pairs, strict=True)
        return self.choose.choices(calls, weights)[0]()

    def model(self, *, alias: bool | None = None) -> Source:
        """Return one of the models, at times as an alias."""
        model = self.choose.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        return of_model(model, alias=self.chance(0.2) if alias is None else alias)

    # -- values --------------------------------------------------------------------------------

    def value(self, kind: str) -> Any:
        """Return a value of a kind, mostly one that rows have."""
        pick = self.values.choice
        made: dict[str, Any] = {
            "int": lambda: pick([*KEYS, 0, 1, 2, 3]),
            "text": lambda: pick([*WORDS, *REGIONS, "new", "DE", "FR"]),
            "number": lambda: pick([*MIXED, Decimal("19.99"), Decimal("2.5")]),
            "real": lambda: pick([0.0, 0.5, -2.5, 3.0]),
            "moment": self._moment,
            "day": lambda: date(2024, pick([1, 2, 12]), pick([1, 28])),
            "bool": lambda: pick([True, False]),
            "size": lambda: pick(list(Size)),
        }
        return made[kind]()

    def _moment(self) -> Any:
        moment = EPOCH + timedelta(minutes=15 * self.values.choice([0, 2, 50, 100]))
        return moment.replace(tzinfo=UTC) if self.dialect == "postgresql" else moment

    def bound(self, kind: str, like: Any) -> Any:
        """Return a value, or a parameter whose value is given to the execution."""
        value = self.value(kind)
        if not self.chance(0.15):
            return value
        name = f"p{len(self.params)}"
        self.params[name] = None if self.values.random() < 0.06 else value
        return bindparam(name, type_=like.type)

    # -- expressions ---------------------------------------------------------------------------

    def column(self, scope: Sequence[Source], kinds: Sequence[str] = ()) -> Any:
        """Return a column of one of the kinds, or None where there is none."""
        found = [
            column
            for source in scope
            for kind, some in source.columns.items()
            if (kind in kinds if kinds else kind not in {"json", "other"})
            for column in some
        ]
        return self.choose.choice(found) if found else None

    def expression(self, scope: Sequence[Source], *, bare: bool = False) -> Any:
        """Return a column or something computed from one row; `bare` without parameters."""
        column = self.column(scope)
        if column is None:
            return literal_column("1")
        if self.chance(0.55):
            return column
        computed = self._computed(column, kind_of(column), bare)
        return column if computed is None else computed

    def _computed(self, column: Any, kind: str, bare: bool) -> Any:
        if kind == "text":
            return self.any_of(
                lambda: func.lower(column),
                lambda: func.upper(column),
                lambda: func.length(column),
                lambda: func.trim(column),
                *(() if bare else [lambda: func.coalesce(column, "-"), lambda: column + "!"]),
            )
        if kind in ADDED:
            return self.any_of(
                lambda: -column,
                lambda: func.abs(column),
                lambda: column + column,
                *(() if bare else self._arithmetic(column, kind)),
            )
        if kind in {"moment", "day"}:
            return extract(self.choose.choice(["year", "month", "day"]), column)
        if kind == "bool" and not bare:
            return case((column.is_(True), "yes"), (column.is_(False), "no"), else_="?")
        return None

    def _arithmetic(self, column: Any, kind: str) -> list[Any]:
        parts = [
            lambda: column * 2,
            lambda: func.coalesce(column, 0),
            lambda: case((column > self.value(kind), 1), else_=0),
            lambda: func.nullif(column, self.value(kind)),
        ]
        if kind == "int":
            parts += [
                lambda: column % 3,
                lambda: cast(column, String(10)),
                lambda: column / 2,
                lambda: column // 2,
            ]
        if kind == "number":
            parts += [
                lambda: func.round(column, 1),
                lambda: cast(column, Numeric(10, 1)),
                lambda: column / 4,
            ]
        return parts

    # -- conditions ----------------------------------------------------------------------------

    def predicate(self, scope: Sequence[Source], depth: int = 1) -> Any:
        """Return a condition on the rows of `scope`."""
        if depth and self.chance(0.25):
            parts = [self.predicate(scope, depth - 1) for _ in range(2)]
            return self.any_of(
                lambda: and_(*parts), (2, lambda: or_(*parts)), lambda: not_(and_(*parts))
            )
        if depth and self.chance(0.12):
            return self.subcondition(scope)
        if self.chance(0.3):
            return self.on_key(scope)
        column = self.column(scope, COMPARED)
        return text("1 = 1") if column is None else self._compared(column, scope)

    def subcondition(self, scope: Sequence[Source]) -> Any:
        """Return a condition with a subquery; made where subqueries are."""
        raise NotImplementedError

    def on_key(self, scope: Sequence[Source]) -> Any:
        """Return a condition on what names a row, often the shard key."""
        source = self.choose.choice(scope)
        key = self.choose.choice(source.keys) if source.keys else self.column([source], ["int"])
        if key is None:
            return text("1 = 1")
        kind = kind_of(key)
        if kind not in COMPARED or kind == "bool":
            return key.is_not(None)
        some = [self.value(kind) for _ in range(self.values.randint(1, 4))]
        return self.any_of(
            (4, lambda: key == self.bound(kind, key)),
            (2, lambda: key.in_(some)),
            lambda: key.not_in(some),
            lambda: key > self.bound(kind, key),
            lambda: between(key, self.value(kind), self.value(kind)),
            lambda: or_(key == self.value(kind), key == self.value(kind)),
            lambda: self._pairs(source, key),
        )

    def _pairs(self, source: Source, key: Any) -> Any:
        other = self.column([source], ["int"])
        if other is None or kind_of(key) != "int":
            return key.is_not(None)
        some = [(self.value("int"), self.value("int")) for _ in range(3)]
        return tuple_(key, other).in_(some)

    def _compared(self, column: Any, scope: Sequence[Source]) -> Any:
        kind = kind_of(column)
        if kind == "bool":
            return self.any_of(
                lambda: column.is_(True),
                lambda: column.is_not(True),
                lambda: column == False,  # noqa: E712
            )
        value = self.bound(kind, column)
        makers = [
            (3, lambda: column == value),
            lambda: column != value,
            (2, lambda: column > value),
            (2, lambda: column <= value),
            lambda: column.is_(None),
            lambda: column.is_not(None),
            lambda: column.in_([self.value(kind) for _ in range(3)]),
            lambda: column.is_distinct_from(value),
            lambda: func.coalesce(column, self.value(kind)) == self.value(kind),
            lambda: self.choose.choice([false(), column.in_([])]),
            lambda: case((column == self.value(kind), 1), else_=0) == 1,
            lambda: self._with_another(column, kind, scope),
        ]
        if kind == "text" and self.likes:
            makers += [
                lambda: column.like(f"%{self.values.choice('aezn')}%"),
                lambda: column.ilike(f"{self.values.choice('aezn')}%"),
                lambda: column.startswith(self.values.choice(["Z", "a", "é"])),
                lambda: func.lower(column) == self.value("text").lower(),
            ]
        return self.any_of(*makers)

    def _with_another(self, column: Any, kind: str, scope: Sequence[Source]) -> Any:
        other = self.column(scope, [kind])
        return column <= other if self.chance(0.5) else column == other

    # -- aggregates ----------------------------------------------------------------------------

    def aggregate(self, scope: Sequence[Source]) -> Any:
        """Return an aggregate over the rows of `scope`."""
        number = self.column(scope, ADDED)
        anything = self.column(scope)
        compared = self.column(scope, ["int", "text", "number", "real", "moment", "day"])
        if number is None or compared is None:
            return func.count()
        made = self.any_of(
            (4, lambda: func.count()),
            (2, lambda: func.count(anything)),
            (2, lambda: func.count(anything.distinct())),
            (4, lambda: func.sum(number)),
            (2, lambda: func.avg(number)),
            (2, lambda: func.min(compared)),
            (2, lambda: func.max(compared)),
            lambda: func.sum(number.distinct()),
            lambda: func.sum(case((number > self.value(kind_of(number)), 1), else_=0)),
            lambda: func.sum(number * 2),
            lambda: self._rare(scope),
        )
        if self.dialect != "mariadb" and self.chance(0.08):
            made = made.filter(self.predicate(scope, 0)) if hasattr(made, "filter") else made
        if self.chance(0.1):
            made = func.coalesce(func.sum(number), 0)
        elif self.chance(0.06):
            made = func.sum(number) / func.count()
        return made

    def _rare(self, scope: Sequence[Source]) -> Any:
        whole = self.column(scope, ["int"])
        if whole is None:
            return func.count()
        total = self.choose.choice(scope)
        if self.dialect == "sqlite":
            return self.any_of(lambda: func.total(whole), lambda: self._length(whole))
        if self.dialect == "mariadb":
            return self.any_of(
                lambda: func.round(func.stddev_pop(whole), 6),
                lambda: func.group_concat(whole.op("ORDER BY")(whole)),
                lambda: func.bit_or(whole),
            )
        return self.any_of(
            lambda: func.stddev_pop(whole),
            lambda: func.variance(whole),
            lambda: func.bool_and(whole > 1),
            lambda: func.array_agg(_ordered(whole)),
            lambda: func.string_agg(
                cast(whole, String), _ordered(literal(","), cast(whole, String))
            ),
            lambda: func.percentile_cont(0.5).within_group(whole.asc()),
            lambda: func.count(total.keys[0].distinct()) if total.keys else func.count(),
        )

    @staticmethod
    def _length(whole: Any) -> Any:
        return func.length(func.group_concat(cast(whole, Integer)))


def _ordered(first: Any, by: Any = None) -> Any:
    from sqlalchemy.dialects.postgresql import aggregate_order_by

    return aggregate_order_by(first, first if by is None else by)
