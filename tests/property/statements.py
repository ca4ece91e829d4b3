"""A random statement over the models of `worlds`: the routed subset and well beyond it."""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    cast,
    false,
    func,
    lambda_stmt,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy import Integer as Whole
from sqlalchemy.orm import aliased, join, outerjoin

from tests.property.worlds import (
    HOT,
    KEYS,
    SLUGS,
    SMALL,
    Country,
    Customer,
    Item,
    Move,
    Note,
    Order,
    Setting,
    Stock,
    Tag,
)

KEY_COLUMN = {Customer: "id", Order: "customer_id", Note: "customer_id", Item: "id", Tag: "slug"}
OTHER_COLUMN = {
    Customer: "score",
    Order: "number",
    Note: "order_number",
    Item: "owner",
    Country: "size",
    Setting: "value",
    Stock: "amount",
    Move: "id",
    Tag: "weight",
}
WEIGHTS = {
    Customer: 5,
    Order: 5,
    Note: 4,
    Country: 2,
    Stock: 2,
    Move: 2,
    Tag: 1,
    Item: 1,
    Setting: 1,
}


class Builder:
    """Builds statements: `choose` decides their structure, `values` the values in them.

    Two builders with the same structure and other values build statements of one shape.
    """

    def __init__(self, choose: random.Random, values: random.Random) -> None:
        self.choose = choose
        self.values = values
        self.params: dict[str, Any] = {}

    def statement(self) -> Any:
        """Return a SELECT of whole columns, perhaps joined, filtered, nested."""
        entities, source = self.source()
        columns = [
            column for entity in entities for column in (self.key(entity), self.other(entity))
        ]
        statement = select(*columns).select_from(source)
        for _ in range(self.choose.randint(0, 2)):
            statement = statement.where(self.predicate(entities, 2))
        if self.chance(0.4):
            statement = statement.where(self.key(entities[0]) == self.value(entities[0]))
        if self.chance(0.06):
            statement = statement.where(self.text())
        if self.chance(0.1):
            statement = statement.add_columns(self.scalar(self.choose.choice(entities)))
        return self.finish(statement, columns)

    def chance(self, share: float) -> bool:
        """Return whether something of this likelihood happens."""
        return self.choose.random() < share

    # -- around the whole ------------------------------------------------------------------------

    def finish(self, statement: Any, columns: list[Any]) -> Any:
        """Perhaps nest the statement, sort it, or aggregate it."""
        kind = self.choose.random()
        if kind < 0.55:
            return statement
        if kind < 0.77:
            return self.nested(statement, columns)
        if kind < 0.82:
            return statement.order_by(*columns).limit(self.choose.randint(1, 5))
        if kind < 0.84:
            return statement.with_only_columns(func.count(), func.max(columns[0]))
        if kind < 0.87:
            return statement.with_only_columns(columns[0], func.count()).group_by(columns[0])
        if kind < 0.89:
            return statement.distinct()
        if kind < 0.91:
            return statement.add_columns(func.row_number().over(order_by=columns[0]) > 0)
        if kind < 0.93:
            return lambda_stmt(lambda: statement)
        if kind < 0.96:
            return self.recursive()
        other = self.choose.choice(["union_all", "union", "except_", "intersect"])
        return getattr(statement, other)(statement.where(self.predicate([*self.seen], 1)))

    def nested(self, statement: Any, columns: list[Any]) -> Any:
        """Return a SELECT from the statement: a subquery, or a CTE that is used once or twice."""
        labelled = [column.label(f"c{number}") for number, column in enumerate(columns)]
        inner = statement.with_only_columns(*labelled)
        kind = self.choose.random()
        if kind < 0.1:
            inner = inner.distinct()
        elif kind < 0.25:
            inner = inner.order_by(*labelled).limit(2)
        elif kind < 0.35:
            grouped = [func.max(column).label(f"c{n}") for n, column in enumerate(columns[1:], 1)]
            inner = statement.with_only_columns(labelled[0], *grouped)
            inner = inner.group_by(columns[0]) if self.chance(0.5) else inner
        elif kind < 0.45:
            inner = inner.union_all(inner)
        nested = inner.cte() if self.chance(0.5) else inner.subquery()
        if self.chance(0.2):
            nested = nested.alias()
        outer = select(nested)
        if self.chance(0.6):
            outer = outer.where(self.compare(nested.c.c0, self.seen[0]))
        if self.chance(0.3):
            again = nested.alias()
            on = nested.c.c0 == self.choose.choice([again.c.c0, again.c.c1])
            outer = outer.join(again, on, isouter=self.chance(0.4)).add_columns(again.c.c1)
        elif self.chance(0.3):
            right = self.entity()
            on = nested.c.c0 == self.key(right)
            outer = outer.join(right, on, isouter=self.chance(0.4)).add_columns(self.other(right))
        return outer

    def recursive(self) -> Any:
        """Return a walk from row to row."""
        first, step = aliased(Item), aliased(Item)
        start = select(first.id.label("id"), first.owner.label("owner"))
        start = start.where(self.compare(first.id, first)) if self.chance(0.8) else start
        walk = start.cte(recursive=True)
        on = step.id == self.choose.choice([walk.c.id, walk.c.owner])
        more = select(step.id, step.owner).join(walk, on)
        if self.chance(0.5):
            more = more.where(self.compare(step.id, step))
        walk = walk.union(more)
        return select(walk.c.id) if self.chance(0.5) else select(walk).where(walk.c.id == 3)

    # -- FROM ---------------------------------------------------------------------------------

    def source(self) -> tuple[list[Any], Any]:
        """Return entities and what they are selected from."""
        first = self.entity()
        self.seen, source = [first], first
        for _ in range(self.choose.choice([0, 0, 0, 1, 1, 2])):
            right = self.entity()
            condition = self.join_condition(self.seen, right)
            kind = self.choose.random()
            if kind < 0.6:
                source = join(source, right, condition)
            elif kind < 0.95:
                source = outerjoin(source, right, condition)
            else:
                source = outerjoin(source, right, condition, full=True)
            self.seen = [*self.seen, right]
        return self.seen, source

    def entity(self) -> Any:
        """Return a fresh alias of one of the models."""
        return aliased(self.choose.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])

    def join_condition(self, entities: list[Any], right: Any) -> Any:
        """Return an ON clause: mostly on equal keys, at times on something else."""
        left = self.choose.choice(entities)
        models = {_model(left), _model(right)}
        on = self.key(left) == self.key(right)
        if models == {Customer, Country}:
            customer, country = (left, right) if _model(left) is Customer else (right, left)
            on = customer.country == country.code
        elif models <= {Stock, Move}:
            on = and_(left.area == right.area, left.slot == right.slot)
        elif Country in models or Tag in models or self.chance(0.2):
            on = self.other(left) == self.other(right)
        if self.chance(0.3):
            on = and_(on, self.predicate([right, *entities], 0))
        return on

    # -- WHERE --------------------------------------------------------------------------------

    def predicate(self, entities: list[Any], depth: int) -> Any:
        """Return a condition on the columns of `entities`."""
        entity = self.choose.choice(entities)
        if depth and self.chance(0.4):
            parts = [self.predicate(entities, depth - 1) for _ in range(2)]
            kind = self.choose.choice(["and", "or", "or", "not"])
            if kind == "not":
                return not_(parts[0]) if isinstance(parts[0], ColumnElement) else parts[0]
            return and_(*parts) if kind == "and" else or_(*parts)
        if depth and self.chance(0.3):
            return self.subquery(entity, depth)
        if self.chance(0.2) or _model(entity) in (Country, Setting):
            return self.other(entity) == self.number(self.values.choice([0, 1, 2, 7]))
        if _model(entity) in (Stock, Move) and self.chance(0.6):
            return self.on_both(entity)
        return self.compare(self.key(entity), entity, entities)

    def on_both(self, entity: Any) -> Any:
        """Return a condition on a shard key of two columns."""
        one, two = self.values.choice(SMALL), self.values.choice(SMALL)
        pair = tuple_(entity.area, entity.slot)
        some = [
            (self.values.choice(SMALL), self.values.choice(SMALL))
            for _ in range(self.values.randint(1, 3))
        ]
        kinds = [
            lambda: and_(entity.area == one, entity.slot == two),
            lambda: pair.in_(some),
            lambda: tuple_(entity.slot, entity.area).in_(some),
            lambda: and_(entity.area.in_([one, two]), entity.slot == one),
            lambda: and_(entity.area.is_(None), entity.slot == one),
            lambda: and_(entity.area == entity.slot, entity.area == one),
        ]
        return self.choose.choice(kinds)()

    def compare(self, key: Any, entity: Any, entities: list[Any] | None = None) -> Any:
        """Return a condition on `key`, which holds shard keys of `entity`."""
        one, two = (self.bound(self.value(entity)) for _ in range(2))
        plain = self.value(entity)
        number = self.choose.choice
        kinds = [
            *[lambda: key == one] * 8,
            lambda: one == key,
            lambda: key.in_([self.value(entity) for _ in range(self.values.randint(0, 4))]),
            lambda: key.in_([plain, *self.values.choice([[None], []])]),
            lambda: key.between(one, two),
            lambda: key < one,
            lambda: key >= one,
            lambda: key.is_(None),
            lambda: key.is_not(None),
            lambda: key != one,
            lambda: func.coalesce(key, plain) == one,
            lambda: case((key == one, 1), else_=0) == 0,
            lambda: key.not_in([plain, self.value(entity)]),
            lambda: key == key,
            lambda: key.is_not_distinct_from(one),
            lambda: and_(key == one, key == two),
            lambda: or_(key == one, key.is_(None)),
            lambda: or_(key == one, self.choose.choice([true(), false()])),
            lambda: literal_column("1") == self.values.choice([1, 2]),
            self.text,
        ]
        if isinstance(plain, int):
            kinds += [
                lambda: key + 0 == one,
                lambda: func.abs(key) == one,
                lambda: cast(key, Whole) == one,
                lambda: literal(plain) == key,
            ]
        if entities:
            kinds += [
                lambda: key == self.key(number(entities)),
                lambda: key == self.other(number(entities)),
                lambda: tuple_(key, self.other(entity)).in_([(plain, 0), (self.value(entity), 1)]),
            ]
        return self.choose.choice(kinds)()

    def text(self) -> Any:
        """Return a condition written as text."""
        return text(self.choose.choice(["(1 = 1 OR 1 = 2)", "1 = 1 OR 1 = 2", "1 = 1"]))

    def subquery(self, outer: Any, depth: int) -> Any:
        """Return a condition with a subquery, correlated or not."""
        inner = self.entity()
        where = [self.predicate([inner, outer] if self.chance(0.2) else [inner], depth - 1)]
        if self.chance(0.6):
            where.append(self.key(inner) == self.key(outer))
        kind = self.choose.choice(["exists", "in", "not in", "not exists", "scalar"])
        inside = select(self.key(inner)).where(*where).select_from(inner).correlate(outer)
        if kind == "exists":
            return inside.exists()
        if kind == "not exists":
            return ~inside.exists()
        if kind == "scalar":
            return inside.with_only_columns(func.count()).scalar_subquery() > 0
        return self.key(outer).in_(inside) if kind == "in" else self.key(outer).not_in(inside)

    def scalar(self, outer: Any) -> Any:
        """Return a column computed from other rows."""
        inner = self.entity()
        count = select(func.count()).select_from(inner).correlate(outer)
        if self.chance(0.7):
            count = count.where(self.key(inner) == self.key(outer))
        if self.chance(0.5):
            count = count.where(self.compare(self.key(inner), inner))
        return count.scalar_subquery()

    # -- columns and values ------------------------------------------------------------------------

    def value(self, entity: Any) -> Any:
        """Return a key value for `entity`."""
        model = _model(entity)
        if model is Tag:
            return self.values.choice(SLUGS)
        if model in (Stock, Move, Country, Setting):
            return self.values.choice(SMALL)
        return self.values.choice(HOT if self.values.random() < 0.85 else KEYS)

    def bound(self, value: Any) -> Any:
        """Return `value`, or a parameter whose value is given to the execution."""
        kind = self.choose.random()
        if kind < 0.8:
            return value
        name = f"p{len(self.params)}"
        self.params[name] = value if self.values.random() < 0.9 else None
        return bindparam(name, type_=literal(value).type)

    def number(self, value: int) -> Any:
        """Return a small number, perhaps as a parameter of its own."""
        return bindparam(None, value) if self.chance(0.2) else value

    @staticmethod
    def key(entity: Any) -> Any:
        """Return the shard key column, or another of a table that has none."""
        model = _model(entity)
        if model in (Stock, Move):
            return entity.area
        return getattr(entity, KEY_COLUMN.get(model) or OTHER_COLUMN[model])

    @staticmethod
    def other(entity: Any) -> Any:
        """Return a column that is not the shard key."""
        return getattr(entity, OTHER_COLUMN[_model(entity)])


def _model(entity: Any) -> Any:
    return entity.__mapper__.class_
