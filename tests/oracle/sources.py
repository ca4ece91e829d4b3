"""What statements select from: models, aliases of them, subqueries; and how they are joined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Uuid,
    and_,
    inspect,
)
from sqlalchemy.orm import aliased

from tests.oracle import schema as s

_KINDS: tuple[tuple[type[Any], str], ...] = (
    (Enum, "size"),
    (Float, "real"),
    (Numeric, "number"),
    (BigInteger, "int"),
    (Integer, "int"),
    (String, "text"),
    (DateTime, "moment"),
    (Date, "day"),
    (Boolean, "bool"),
    (Uuid, "uuid"),
    (LargeBinary, "bytes"),
    (JSON, "json"),
)

WEIGHTS: dict[Any, int] = {
    s.Customer: 10,
    s.Order: 10,
    s.Line: 6,
    s.Note: 5,
    s.Ticket: 4,
    s.Account: 6,
    s.Contact: 4,
    s.Country: 3,
    s.Product: 3,
    s.Campaign: 2,
    s.Invoice: 4,
    s.Setting: 2,
    s.Asset: 3,
    s.Vehicle: 2,
}
ROW_KEYS = {
    model: [inspect(model).get_property_by_column(one).key for one in inspect(model).primary_key]
    for model in WEIGHTS
} | {s.Ticket: ["customer_id", "id"]}
"""The columns that name one row among those of all shards."""


@dataclass(frozen=True)
class Source:
    """Something to select from: its columns by kind, and those that name one of its rows."""

    entity: Any
    columns: dict[str, list[Any]]
    keys: list[Any] = field(default_factory=list)
    model: Any = None

    def sortable(self) -> list[Any]:
        """Return the columns that every database can compare."""
        return [one for kind, some in self.columns.items() if kind != "json" for one in some]

    def named(self, name: str) -> Any:
        """Return a column by its name."""
        return getattr(self.entity, name)


def kind_of(column: Any) -> str:
    """Return the kind of values of a column."""
    kinds = (kind for type_, kind in _KINDS if isinstance(column.type, type_))
    return next(kinds, "other")


def by_kind(columns: Any) -> dict[str, list[Any]]:
    """Return columns by the kind of their values."""
    found: dict[str, list[Any]] = {}
    for column in columns:
        found.setdefault(kind_of(column), []).append(column)
    return found


def of_model(model: Any, *, alias: bool = False) -> Source:
    """Return a model, or a fresh alias of it, as a source."""
    entity = aliased(model) if alias else model
    own = [one for one in inspect(model).column_attrs if isinstance(one.columns[0], Column)]
    columns = [getattr(entity, one.key) for one in own]
    return Source(entity, by_kind(columns), [getattr(entity, k) for k in ROW_KEYS[model]], model)


def of_table(table: Any, keys: list[Any]) -> Source:
    """Return a subquery or a CTE as a source."""
    return Source(table, by_kind(table.c), keys)


LINKS: dict[tuple[Any, Any], tuple[tuple[str, str], ...]] = {
    (s.Order, s.Customer): (("customer_id", "id"),),
    (s.Line, s.Order): (("customer_id", "customer_id"), ("order_number", "number")),
    (s.Line, s.Customer): (("customer_id", "id"),),
    (s.Line, s.Product): (("product_id", "id"),),
    (s.Note, s.Customer): (("customer_id", "id"),),
    (s.Note, s.Order): (("customer_id", "customer_id"),),
    (s.Ticket, s.Customer): (("customer_id", "id"),),
    (s.Ticket, s.Note): (("customer_id", "customer_id"),),
    (s.Ticket, s.Order): (("customer_id", "customer_id"),),
    (s.Customer, s.Country): (("country_code", "code"),),
    (s.Account, s.Country): (("country_code", "code"),),
    (s.Account, s.Customer): (("customer_id", "id"),),
    (s.Contact, s.Account): (("account_id", "id"),),
    (s.Invoice, s.Customer): (("customer_id", "id"),),
    (s.Invoice, s.Order): (("customer_id", "customer_id"),),
    (s.Invoice, s.Invoice): (("parent_id", "id"),),
    (s.Customer, s.Customer): (("country_code", "country_code"),),
    (s.Asset, s.Customer): (("customer_id", "id"),),
    (s.Asset, s.Order): (("customer_id", "customer_id"), ("number", "number")),
    (s.Vehicle, s.Customer): (("customer_id", "id"),),
    (s.Vehicle, s.Contact): (("number", "position"),),
    (s.Setting, s.Product): (("value", "id"),),
    (s.Product, s.Customer): (("size", "size"),),
    (s.Campaign, s.Customer): (("title", "name"),),
    (s.Contact, s.Customer): (("name", "name"),),
}


def linked(left: Source, right: Source) -> Any:
    """Return the condition that belongs between two sources, or None."""
    pairs = LINKS.get((left.model, right.model))
    if pairs is None:
        left, right = right, left
        pairs = LINKS.get((left.model, right.model))
    if pairs is None or left.model is None:
        return None
    conditions = [left.named(mine) == right.named(theirs) for mine, theirs in pairs]
    return and_(*conditions) if len(conditions) > 1 else conditions[0]


def neighbours(model: Any) -> list[Any]:
    """Return the models that `model` is commonly joined with."""
    pairs = [pair for pair in LINKS if model in pair]
    return [a if b is model else b for a, b in pairs]
