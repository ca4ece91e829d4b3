"""A random statement over the models of `worlds`: the routed subset and well beyond it."""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import and_, exists, func, literal, not_, or_, select, tuple_
from sqlalchemy.orm import aliased, join, outerjoin

from tests.property.worlds import KEYS, Country, Customer, Item, Note, Order, Setting

KEY_COLUMN = {Customer: "id", Order: "customer_id", Note: "customer_id", Item: "id"}
OTHER_COLUMN = {
    Customer: "score",
    Order: "number",
    Note: "order_number",
    Item: "owner",
    Country: "size",
    Setting: "value",
}


class Builder:
    """Builds statements from a source of randomness."""

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose

    def statement(self) -> Any:
        """Return a SELECT of whole columns, perhaps joined, filtered, nested."""
        entities, source = self.source()
        columns = [
            column for entity in entities for column in (self.key(entity), self.other(entity))
        ]
        statement = select(*columns).select_from(source)
        for _ in range(self.choose.randint(0, 2)):
            statement = statement.where(self.predicate(entities, 2))
        return self.finish(statement, columns)

    def finish(self, statement: Any, columns: list[Any]) -> Any:
        """Perhaps nest the statement, sort it, or aggregate it."""
        kind = self.choose.random()
        if kind < 0.6:
            return statement
        if kind < 0.75:
            labelled = [column.label(f"c{number}") for number, column in enumerate(columns)]
            inner = statement.with_only_columns(*labelled)
            if self.choose.random() < 0.3:
                inner = inner.distinct()
            if self.choose.random() < 0.2:
                inner = inner.order_by(*labelled).limit(3)
            nested = inner.cte() if self.choose.random() < 0.5 else inner.subquery()
            outer = select(nested)
            if self.choose.random() < 0.6:
                outer = outer.where(nested.c.c0 == self.choose.choice(KEYS))
            return outer
        if kind < 0.85:
            return statement.order_by(*columns).limit(self.choose.randint(1, 5))
        if kind < 0.95:
            return statement.with_only_columns(func.count(), func.max(columns[0]))
        return statement.union_all(select(*(literal(1) for _ in columns)))

    # -- FROM ---------------------------------------------------------------------------------

    def source(self) -> tuple[list[Any], Any]:
        """Return entities and what they are selected from."""
        first = self.entity()
        entities, source = [first], first
        for _ in range(self.choose.choice([0, 0, 1, 1, 2])):
            right = self.entity()
            condition = self.join_condition(entities, right)
            outer = self.choose.random() < 0.35
            source = _join(source, right, condition, outer)
            entities.append(right)
        return entities, source

    def entity(self) -> Any:
        """Return a fresh alias of one of the models."""
        weights = {Customer: 4, Order: 4, Note: 3, Country: 2, Item: 1, Setting: 1}
        model = self.choose.choices(list(weights), list(weights.values()))[0]
        return aliased(model)

    def join_condition(self, entities: list[Any], right: Any) -> Any:
        """Return an ON clause: mostly on equal keys, at times on something else."""
        left = self.choose.choice(entities)
        on = self.key(left) == self.key(right)
        if {_model(left), _model(right)} == {Customer, Country}:
            customer, country = (left, right) if _model(left) is Customer else (right, left)
            on = customer.country == country.code
        elif Country in (_model(left), _model(right)) or self.choose.random() < 0.2:
            on = self.other(left) == self.other(right)
        if self.choose.random() < 0.3:
            on = and_(on, self.predicate([right, *entities], 0))
        return on

    # -- WHERE --------------------------------------------------------------------------------

    def predicate(self, entities: list[Any], depth: int) -> Any:
        """Return a condition on the columns of `entities`."""
        entity = self.choose.choice(entities)
        if depth and self.choose.random() < 0.4:
            parts = [self.predicate(entities, depth - 1) for _ in range(2)]
            kind = self.choose.choice(["and", "or", "or", "not"])
            if kind == "not":
                return not_(parts[0])
            return and_(*parts) if kind == "and" else or_(*parts)
        if depth and self.choose.random() < 0.25:
            return self.subquery(entity, depth)
        if self.choose.random() < 0.25 or _model(entity) in (Country, Setting):
            return self.other(entity) == self.choose.choice([0, 1, 2, 7])
        return self.on_key(entity, entities)

    def on_key(self, entity: Any, entities: list[Any]) -> Any:
        """Return a condition on a shard key."""
        key = self.key(entity)
        one, two = self.value(), self.value()
        kinds = [
            lambda: key == one,
            lambda: key == one,
            lambda: one == key,
            lambda: key.in_([self.value() for _ in range(self.choose.randint(0, 4))]),
            lambda: key.in_([self.value(), None]),
            lambda: key.between(one, two),
            lambda: key < one,
            lambda: key >= one,
            lambda: key.is_(None),
            lambda: key.is_not(None),
            lambda: key != one,
            lambda: key + 0 == one,
            lambda: func.abs(key) == one,
            lambda: literal(one) == key,
            lambda: key.not_in([one, two]),
            lambda: tuple_(key, self.other(entity)).in_([(one, 0), (two, 1)]),
            lambda: key == self.key(self.choose.choice(entities)),
            lambda: key == self.other(entity),
            lambda: key.is_not_distinct_from(one),
        ]
        return self.choose.choice(kinds)()

    def subquery(self, outer: Any, depth: int) -> Any:
        """Return a condition with a subquery, correlated or not."""
        inner = self.entity()
        where = [self.predicate([inner], depth - 1)]
        if self.choose.random() < 0.6:
            where.append(self.key(inner) == self.key(outer))
        kind = self.choose.choice(["exists", "in", "not in", "not exists", "scalar"])
        if kind == "exists":
            return exists().select_from(inner).where(*where)
        if kind == "not exists":
            return ~exists().select_from(inner).where(*where)
        if kind == "scalar":
            count = select(func.count()).select_from(inner).where(*where).scalar_subquery()
            return count > 0
        inside = select(self.key(inner)).where(*where)
        return self.key(outer).in_(inside) if kind == "in" else self.key(outer).not_in(inside)

    # -- columns ------------------------------------------------------------------------------

    def value(self) -> int:
        """Return a key value."""
        return self.choose.choice(KEYS)

    @staticmethod
    def key(entity: Any) -> Any:
        """Return the shard key column, or any other of a table that has none."""
        model = _model(entity)
        return getattr(entity, KEY_COLUMN.get(model) or OTHER_COLUMN[model])

    @staticmethod
    def other(entity: Any) -> Any:
        """Return a column that is not the shard key."""
        return getattr(entity, OTHER_COLUMN[_model(entity)])


def _model(entity: Any) -> Any:
    return entity.__mapper__.class_


def _join(left: Any, right: Any, condition: Any, outer: bool) -> Any:
    return outerjoin(left, right, condition) if outer else join(left, right, condition)
