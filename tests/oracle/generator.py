"""Generated statements over the traps: what programs ask every day, and all that they may ask."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Integer as Whole
from sqlalchemy import column, desc, func, literal, literal_column, select, text, true, values
from sqlalchemy import exists as sql_exists

from tests.oracle.objects import Objects
from tests.oracle.schema import Account, Customer, Invoice, Order, Product
from tests.oracle.sources import Source, of_model, of_table


@dataclass(frozen=True)
class Case:
    """A statement: of which kind, with which parameters, and what to load lazily afterwards."""

    kind: str
    statement: Any
    params: dict[str, Any] = field(default_factory=dict)
    touch: tuple[str, ...] = ()


SETS = ("union_all", "union", "intersect", "except_")


class Generator(Objects):
    """Makes one statement."""

    def case(self) -> Case:
        """Return a statement of any kind, the ordinary most often."""
        kinds: list[tuple[int, str, Any]] = [
            (24, "simple", self.simple),
            (16, "join", self.join),
            (14, "group", self.group),
            (8, "aggregate", self.totals),
            (5, "distinct", self.distinct),
            (5, "set", self.united),
            (6, "derived", self.nested),
            (4, "window", self.windows),
            (3, "scalar", self.scalars),
            (2, "exists", self.exists),
            (2, "count of rows", self.count_of),
            (1, "recursive", self.recursive),
            (1, "text", self.textual),
            (12, "objects", self.objects),
            (3, "query", self.query),
        ]
        if self.dialect == "postgresql":
            kinds += [(1, "lateral", self.lateral), (1, "values", self.listed)]
        weights = [weight for weight, _, _ in kinds]
        _, name, make = self.choose.choices(kinds, weights)[0]
        made = make()
        statement, touch = made if isinstance(made, tuple) else (made, ())
        return Case(name, statement, self.params, touch)

    def simple(self) -> Any:
        """Columns or objects of one table."""
        source = self.model()
        return self._plain([source], source.entity)

    def join(self) -> Any:
        """Tables joined."""
        scope, joined = self.joined(self.model(), self.choose.choice([1, 1, 1, 2, 2, 3]))
        return self._plain(scope, joined)

    def _plain(self, scope: list[Source], joined: Any) -> Any:
        columns = self.projection(scope)
        statement = select(*columns).select_from(joined)
        if self.chance(0.04):
            statement = statement.execution_options(yield_per=3)
        return self.finished(self.filtered(statement, scope), scope)

    # -- aggregates ----------------------------------------------------------------------------

    def _scope(self) -> tuple[list[Source], Any]:
        return self.joined(self.model(), self.choose.choice([0, 0, 0, 1, 1, 2]))

    def totals(self) -> Any:
        """Aggregates over everything."""
        scope, joined = self._scope()
        columns = [self.aggregate(scope) for _ in range(self.choose.randint(1, 3))]
        statement = self.filtered(select(*columns).select_from(joined), scope)
        if self.chance(0.06):
            statement = statement.having(func.count() > self.values.choice([0, 5, 1000]))
        return statement

    def by_row(self) -> Any:
        """One group for each row of a table: the key names it, the rest follows from the key."""
        model = self.choose.choice([Customer, Order, Account, Product])
        one = of_model(model)
        scope, joined = self.joined(one, self.choose.choice([1, 1, 2]))
        shown = [one.entity] if self.chance(0.3) else [*one.keys, self.column([one])]
        found = self.aggregate(scope[1:]).label("found")
        statement = select(*shown, found).select_from(joined).group_by(*one.keys)
        statement = self.filtered(statement, scope, 1)
        if self.chance(0.6):
            statement = statement.order_by(self._directed(found), *one.keys)
            statement = self.limited(statement) if self.chance(0.5) else statement
        return statement

    def group(self) -> Any:
        """Groups, perhaps of expressions, HAVING, ORDER BY an aggregate."""
        if self.chance(0.12):
            return self.by_row()
        scope, joined = self._scope()
        keys = [self._group_key(scope) for _ in range(self.choose.choice([1, 1, 1, 2]))]
        found = [self.aggregate(scope) for _ in range(self.choose.randint(1, 3))]
        found = [one.label(f"a{number}") for number, one in enumerate(found)]
        shown = keys if self.chance(0.85) else keys[1:]
        statement = self.filtered(select(*shown, *found).select_from(joined), scope)
        together = self.dialect == "postgresql" and self.chance(0.05)
        statement = (
            statement.group_by(func.rollup(*keys)) if together else statement.group_by(*keys)
        )
        if self.chance(0.25):
            statement = statement.having(func.count() > self.values.choice([0, 1, 2]))
        if self.chance(0.07):
            statement = statement.having(self.aggregate(scope).is_not(None))
        if self.chance(0.5):
            by = self.choose.choice([*found, *keys])
            by = desc("a0") if self.chance(0.15) else self._directed(by)
            statement = statement.order_by(by, *keys)
            statement = self.limited(statement) if self.chance(0.5) else statement
        return statement

    def _group_key(self, scope: list[Source]) -> Any:
        if self.chance(0.8):
            return self.column(scope)
        return self.expression(scope, bare=True)

    def count_of(self) -> Any:
        """The number of rows of a statement, as paginators ask."""
        inner = self.choose.choice([self.simple, self.join, self.group])()
        labelled = inner.order_by(None).subquery()
        return select(func.count()).select_from(labelled)

    # -- DISTINCT, set operations --------------------------------------------------------------

    def distinct(self) -> Any:
        """DISTINCT, of a few columns; DISTINCT ON with an order that decides."""
        scope, joined = self._scope()
        if self.dialect == "postgresql" and self.chance(0.4):
            on = self.column(scope)
            columns = [on, *(key for source in scope for key in source.keys)]
            statement = select(*columns).select_from(joined).distinct(on)
            statement = self.filtered(statement, scope)
            return statement.order_by(on, *self.order(scope, total=True))
        columns = [self.column(scope) for _ in range(self.choose.randint(1, 2))]
        statement = self.filtered(select(*columns).select_from(joined).distinct(), scope)
        if self.chance(0.6):
            statement = statement.order_by(*(self._directed(one) for one in columns))
            statement = self.limited(statement) if self.chance(0.5) else statement
        return statement

    def united(self) -> Any:
        """UNION and the like."""
        kinds = ["int", "text", "number", "moment", "day", "bool", "size", "real"]
        shape = [self.choose.choice(kinds[:4]) for _ in range(self.choose.choice([1, 2]))]
        parts = [self.same_kinds(shape) for _ in range(self.choose.choice([2, 2, 3]))]
        names = [*SETS, "intersect_all", "except_all"] if self.dialect == "postgresql" else SETS
        made = getattr(parts[0], self.choose.choice(names))(*parts[1:])
        if self.chance(0.6):
            made = made.order_by(*(self._directed(one) for one in made.selected_columns))
            made = self.limited(made) if self.chance(0.5) else made
        return made

    # -- subqueries ----------------------------------------------------------------------------

    def nested(self) -> Any:
        """A SELECT from a subquery or CTE, joined with more, perhaps grouped once more."""
        first = self.derived()
        scope, joined = [first], first.entity
        if self.chance(0.4):
            right = self.any_of(
                self.derived,
                lambda: of_table(first.entity.alias(), []),
                (4, lambda: self.model(alias=True)),
            )
            on = self._equal(first, right)
            joined = (joined.join if self.chance(0.6) else joined.outerjoin)(right.entity, on)
            scope.append(right)
        if self.chance(0.25):
            key = self.column(scope)
            grouped = select(key, func.count(), self.aggregate(scope)).select_from(joined)
            return self.filtered(grouped, scope, 1).group_by(key)
        return self._plain(scope, joined)

    def scalars(self) -> Any:
        """Subqueries as columns."""
        source = self.model()
        statement = select(*source.keys, self.scalar([source]).label("found"))
        statement = self.filtered(statement, [source])
        if self.chance(0.3):
            return statement.order_by(literal_column("found"), *source.keys)
        return self.finished(statement, [source])

    def exists(self) -> Any:
        """Whether there are rows at all."""
        source = self.model()
        return select(sql_exists(self.filtered(select(source.keys[0]), [source], 2)))

    def recursive(self) -> Any:
        """A walk along a chain, or a count joined to rows."""
        if self.chance(0.5):
            start = select(literal(1).label("n")).cte("numbers", recursive=True)
            numbers = start.union_all(select(start.c.n + 1).where(start.c.n < 6))
            source = self.model()
            key = self.column([source], ["int"])
            key = source.keys[0] if key is None else key
            counted = select(numbers.c.n, func.count(source.keys[0])).group_by(numbers.c.n)
            if key.type.python_type is not int:
                return counted.where(source.keys[0].is_not(None))
            return counted.join_from(numbers, source.entity, key == numbers.c.n, isouter=True)
        first = select(Invoice.id, Invoice.parent_id, literal(0).label("depth"))
        walk = first.where(Invoice.id == self.value("int")).cte("walk", recursive=True)
        parent = of_model(Invoice, alias=True).entity
        step = select(parent.id, parent.parent_id, walk.c.depth + 1)
        walk = walk.union_all(step.join(walk, walk.c.parent_id == parent.id))
        if self.chance(0.5):
            return (
                select(walk, Customer.name)
                .join(Invoice, Invoice.id == walk.c.id)
                .join(Customer, Customer.id == Invoice.customer_id, isouter=True)
            )
        return select(walk).order_by(walk.c.depth)

    def windows(self) -> Any:
        """Window functions beside the row's key."""
        scope, joined = self._scope()
        keys = [key for source in scope for key in source.keys]
        columns = [self.window(scope).label(f"w{n}") for n in range(self.choose.randint(1, 2))]
        statement = self.filtered(select(*keys, *columns).select_from(joined), scope)
        if self.chance(0.4):
            statement = statement.order_by(columns[0], *keys)
            statement = self.limited(statement) if self.chance(0.5) else statement
        return statement

    def textual(self) -> Any:
        """Fragments written as text."""
        source = of_model(self.choose.choice([Customer, Order]))
        fragment = self.choose.choice(["1 = 1", "1 = 0", "(size IS NULL OR 1 = 1)"])
        statement = select(*source.keys, literal_column("42").label("answer"))
        statement = self.filtered(statement, [source], 1).where(text(fragment))
        return self.finished(statement, [source])

    # -- PostgreSQL only -----------------------------------------------------------------------

    def lateral(self) -> Any:
        """The first rows of each."""
        inner = of_model(Order, alias=True)
        first = self.limited(
            select(inner.entity.number, inner.entity.total)
            .where(inner.entity.customer_id == Customer.id)
            .order_by(*self.order([inner], total=True)),
            offset=False,
        ).lateral()
        statement = select(Customer.id, first).join(first, true(), isouter=self.chance(0.5))
        return self.finished(self.filtered(statement, [of_model(Customer)]), [of_model(Customer)])

    def listed(self) -> Any:
        """Rows given in the statement."""
        source = self.model()
        given = values(column("k", Whole), column("v", Whole), name="given").data(
            [(self.value("int"), number) for number in range(3)]
        )
        key = self.column([source], ["int"])
        if key is None:
            return select(given)
        joined = select(given, *source.keys).join_from(given, source.entity, given.c.k == key)
        return joined.order_by(given.c.v, *source.keys)


def generate(seed: str, number: int, dialect: str) -> Case:
    """Return the statement of a number; two numbers in turn have one shape and other values."""
    structure = random.Random(f"{seed} {number // 2}")
    return Generator(structure, random.Random(f"{seed} values {number}"), dialect).case()
