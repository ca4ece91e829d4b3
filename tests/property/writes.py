"""Random INSERT, UPDATE and DELETE statements over the models of `worlds`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, delete, func, insert, select, update

from tests.property.statements import Builder
from tests.property.worlds import Country, Customer, Item, Move, Note, Order, Setting, Stock, Tag

Write = tuple[Any, Any]
"""A statement and its parameters."""


class WriteBuilder(Builder):
    """Builds writes from the conditions of `Builder`."""

    def write(self) -> Write:
        """Return a write of any kind."""
        model = self.choose.choice(
            [Customer, Order, Note, Stock, Move, Tag, Item, Country, Setting, Order, Note]
        )
        kind = self.choose.random()
        if kind < 0.35:
            return self.insert(model)
        if kind < 0.45:
            return self.bulk_update()
        where = self.where(model)
        if kind < 0.6:
            return delete(model).where(where), self.params
        column = self.choose.choice([self.other(model), self.other(model), self.key(model)])
        if model in (Move, Order) and column is self.other(model):
            column = model.slot if model is Move else model.total
        return update(model).where(where).values({column: self.new_value(model)}), self.params

    def where(self, model: Any) -> Any:
        """Return a condition that mostly names one key."""
        if model in (Country, Setting):
            return self.other(model) == self.values.choice([0, 1, 2])
        if model in (Stock, Move) and self.chance(0.7):
            return and_(
                model.area == self.values.choice(range(4)),
                model.slot == self.values.choice(range(4)),
            )
        if self.chance(0.6):
            return self.key(model) == self.bound(self.value(model))
        return self.predicate([model], 1)

    def new_value(self, model: Any) -> Any:
        """Return what a column is set to: a value, an expression, a subquery."""
        kind = self.choose.random()
        if kind < 0.6:
            return self.values.choice([0, 1, 2, None])
        if kind < 0.8:
            return self.other(model) + 1
        inner = self.entity()
        found = select(func.count()).select_from(inner)
        if self.chance(0.5):
            found = found.where(self.key(inner) == self.key(model))
        else:
            found = found.where(self.compare(self.key(inner), inner))
        return found.scalar_subquery()

    def insert(self, model: Any) -> Write:
        """Return an INSERT of one row or several, as values or as parameters."""
        rows = [self.row(model, number) for number in range(self.choose.choice([1, 1, 2, 3]))]
        if self.chance(0.5):
            key = next(iter(set(rows[0]) - {"id", "code", "number"}), "id")
            rows = [{**row, key: rows[0][key]} for row in rows] if key in rows[0] else rows
        target = model.__table__ if self.chance(0.4) else model
        kind = self.choose.random()
        if kind < 0.3:
            return insert(target).values(rows), None
        if kind < 0.6:
            return insert(target), rows
        if kind < 0.8:
            return insert(target).values(rows[0]), None
        named = {name: bindparam(f"b_{name}") for name in rows[0]}
        return insert(model.__table__).values(named), {f"b_{k}": v for k, v in rows[0].items()}

    def row(self, model: Any, number: int) -> dict[str, Any]:
        """Return a row with a primary key that is not taken."""
        fresh, some = 1000 + number, self.values.choice([0, 1, None])
        key = self.values.choice([-2, 0, 3, 9, 17])
        rows: dict[Any, dict[str, Any]] = {
            Customer: {"id": fresh, "score": some},
            Order: {"customer_id": key, "number": fresh, "total": some},
            Note: {"id": fresh, "customer_id": self.values.choice([key, None])},
            Stock: {"area": 100 + key, "slot": fresh, "amount": some},
            Move: {"id": fresh, "area": some, "slot": self.values.choice([1, None])},
            Tag: {"slug": f"new {fresh}", "weight": some},
            Item: {"id": fresh, "owner": key},
            Country: {"code": f"X{number}", "size": 3},
            Setting: {"id": fresh, "value": some},
        }
        return rows[model]

    def bulk_update(self) -> Write:
        """Return an update by primary key, through the ORM or not."""
        rows = [
            {"customer_id": self.values.choice([-2, 0, 3]), "number": n, "total": 5}
            for n in range(self.choose.choice([1, 2]))
        ]
        return update(Order.__table__ if self.chance(0.3) else Order), rows
