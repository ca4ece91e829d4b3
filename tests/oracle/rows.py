"""The rows of the traps, which follow from a seed."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID

from sqlalchemy import Table, insert

from router import Router
from tests.oracle.schema import (
    Account,
    Asset,
    Campaign,
    Contact,
    Country,
    Customer,
    Invoice,
    Line,
    Note,
    Order,
    Product,
    Setting,
    Size,
    Ticket,
    Vehicle,
    favourites,
)

KEYS = list(range(1, 15))
WORDS = ["Zoë", "zoe", "ZOE", "Ada", "ada", "Émile", "emile", "Ünal", "Zz", "a b", "ab", "ßa", ""]
STATUSES = ["new", "New", "paid", "sent", "Sent", None]
REGIONS = ["EU", "eu", "US", "us", "AP", "É"]
COUNTRIES = ["DE", "FR", "PE", "AT"]
MIXED = [Decimal(text) for text in ("1", "1.0", "1.00", "2.5", "2.50", "-3.125", "10", "0.1", "0")]
EIGHTHS = [0.0, -0.0, 0.5, 1.25, -2.5, 3.0, 100.125]
EPOCH = datetime(2024, 3, 30, 23, 30)  # noqa: DTZ001 - made aware where the database keeps zones


class Rows:
    """Makes rows; `dialect` decides which values a database can keep at all."""

    def __init__(self, seed: str, dialect: str) -> None:
        self._random = random.Random(f"rows {seed}")
        self._dialect = dialect

    def all(self) -> list[tuple[Any, list[dict[str, Any]]]]:
        """Return every model with its rows, parents first."""
        customers = [self._customer(key) for key in KEYS]
        orders = [self._order(key, n) for key in KEYS[:-2] for n in range(self._count(4))]
        lines = [self._line(order, n) for order in orders for n in range(self._count(3))]
        assets = [self._asset(key, n) for key in KEYS[:-1] for n in range(self._count(2))]
        accounts = [self._account(key) for key in (*KEYS[::2], 20, 21, 23)]
        contacts = [
            self._contact(one["id"], n) for one in accounts[:-1] for n in range(self._count(3))
        ]
        regions = [(region, n) for region in REGIONS for n in range(1 + self._count(2))]
        return [
            (Country, [self._country(code) for code in COUNTRIES]),
            (Product, [self._product(key) for key in range(1, 6)]),
            (Customer, customers),
            (Order, orders),
            (Line, lines),
            (Note, [self._note(key) for key in range(1, 25)]),
            (Ticket, self._tickets()),
            (Asset, assets),
            (Vehicle, [self._vehicle(one) for one in assets if one["kind"] == "vehicle"]),
            (favourites, [self._favourite(*one) for one in product(KEYS[:9:2], (1, 2, 5))]),
            (Account, accounts),
            (Contact, contacts),
            (Campaign, [self._campaign(*key) for key in regions]),
            (Invoice, [self._invoice(key) for key in range(1, 13)]),
            (Setting, [self._setting(key) for key in range(1, 6)]),
        ]

    def _one(self, values: Any, nulls: float = 0.15) -> Any:
        return None if self._random.random() < nulls else self._random.choice(values)

    def _count(self, most: int) -> int:
        return self._random.randint(0, most)

    def _real(self) -> float | None:
        specials = [float("nan"), float("inf")] if self._dialect == "postgresql" else []
        return self._one([*EIGHTHS, *specials])

    def _mixed(self) -> Decimal | None:
        specials = [Decimal("NaN")] if self._dialect == "postgresql" else []
        exact = [value for value in MIXED if value * 8 == int(value * 8)]
        return self._one([*(exact if self._dialect == "sqlite" else MIXED), *specials])

    def _money(self) -> Decimal:
        # What SQLite adds up are floats; these have no rounding that depends on the order.
        exact = self._dialect == "sqlite"
        hundredths = [0, 100, 250, 975, 1925, 12350] if exact else [0, 100, 250, 999, 1999, 12345]
        return Decimal(self._random.choice(hundredths)) / 100

    def _moment(self) -> datetime:
        moment = EPOCH + timedelta(minutes=15 * self._random.choice([0, 1, 2, 3, 50, 100, 20000]))
        if self._dialect != "postgresql":
            return moment
        zone = timezone(timedelta(hours=self._random.choice([0, 2, -5])))
        return moment.replace(tzinfo=UTC).astimezone(zone)

    def _day(self) -> date:
        return date(2024, self._random.choice([1, 2, 12]), self._random.choice([1, 28]))

    # -- rows --------------------------------------------------------------------------------

    def _country(self, code: str) -> dict[str, Any]:
        return {"code": code, "name": self._one(WORDS, 0), "rate": self._one([self._money()])}

    def _product(self, key: int) -> dict[str, Any]:
        name, size = self._one(WORDS, 0), self._one(list(Size), 0)
        return {"id": key, "name": name, "price": self._money(), "size": size}

    def _customer(self, key: int) -> dict[str, Any]:
        return {
            "id": key,
            "name": self._one(WORDS),
            "country_code": self._one(COUNTRIES[:3]),
            "size": self._one(list(Size)),
            "score": self._one([-1, 0, 1, 2, 3, 7]),
            "rating": self._real(),
            "balance": self._mixed(),
            "joined": self._one([self._moment()]),
            "born": self._one([self._day()]),
            "active": self._one([True, False]),
            "token": self._one([UUID(int=self._random.getrandbits(128), version=4)]),
        }

    def _order(self, customer: int, number: int) -> dict[str, Any]:
        return {
            "customer_id": customer,
            "number": number,
            "status": self._one(STATUSES),
            "size": self._one(list(Size)),
            "total": self._one([self._money()]),
            "weight": self._real(),
            "placed": self._one([self._moment()]),
            "paid": self._one([True, False]),
        }

    def _line(self, order: dict[str, Any], position: int) -> dict[str, Any]:
        return {
            "customer_id": order["customer_id"],
            "order_number": order["number"],
            "position": position,
            "product_id": self._one(range(1, 6)),
            "quantity": self._one([0, 1, 2, 5]),
            "price": self._mixed(),
        }

    def _note(self, key: int) -> dict[str, Any]:
        return {
            "id": key,
            "customer_id": self._one(KEYS),
            "title": self._one(WORDS),
            "body": self._one(["", "x", "long " * 40]),
            "payload": self._one([{"a": 1, "b": [None, "é"]}, [], "text", 1.5]),
            "written": self._one([self._moment()]),
            "marks": self._one([[], [1], [2, 1], [10]]),
        }

    def _tickets(self) -> list[dict[str, Any]]:
        return [
            {
                "customer_id": key,
                "subject": self._one(WORDS),
                "priority": self._one([0, 1, 2]),
                "digest": self._one([b"", b"\x00", b"\xff\x00", b"a"]),
            }
            for key in KEYS[:8]
            for _ in range(1 + self._count(2))
        ]

    def _account(self, key: int) -> dict[str, Any]:
        return {
            "id": key,
            "customer_id": self._one([*KEYS, 99]),
            "country_code": self._one(COUNTRIES),
            "owner": self._one(WORDS),
            "value": self._mixed(),
            "opened": self._one([self._day()]),
        }

    def _contact(self, account: int, position: int) -> dict[str, Any]:
        name, called = self._one(WORDS), self._one([0, 1, 2])
        return {"account_id": account, "position": position, "name": name, "called": called}

    def _campaign(self, region: str, number: int) -> dict[str, Any]:
        title, budget = self._one(WORDS), self._one([self._money()])
        return {"region": region, "number": number, "title": title, "budget": budget}

    def _asset(self, customer: int, number: int) -> dict[str, Any]:
        return {
            "customer_id": customer,
            "number": number,
            "kind": self._one(["asset", "house", "vehicle"], 0),
            "name": self._one(WORDS),
            "rooms": self._one([1, 2]),
        }

    def _vehicle(self, asset: dict[str, Any]) -> dict[str, Any]:
        key = {name: asset[name] for name in ("customer_id", "number")}
        return {**key, "wheels": self._one([2, 4])}

    def _favourite(self, customer: int, product: int) -> dict[str, Any]:
        return {"customer_id": customer, "product_id": product}

    def _invoice(self, key: int) -> dict[str, Any]:
        return {
            "id": key,
            "customer_id": self._one([*KEYS, 99]),
            "parent_id": self._one(range(1, key), 0.3) if key > 1 else None,
            "label": self._one(WORDS),
            "total": self._one([self._money()]),
            "issued": self._one([self._day()]),
        }

    def _setting(self, key: int) -> dict[str, Any]:
        return {"Id": key, "order": self._one(WORDS), "Value %": self._one([0, 1, 7])}


def spread(router: Router, rows: list[tuple[Any, list[dict[str, Any]]]]) -> None:
    """Write every row to where the map says, past the session: it is not under test here."""
    for model, some in rows:
        table = model if isinstance(model, Table) else model.__table__
        binding = router.wiring.binds.of_table(table)
        placed: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in some:
            for database in _homes(router, binding, row):
                # Every shard counts for itself: ids meet again on other shards.
                own = {"id": len(placed[database]) + 1} if model is Ticket else {}
                placed[database].append({**row, **own})
        for database, there in placed.items():
            with router.engines[database].begin() as connection:
                connection.execute(insert(table), there)


def _homes(router: Router, binding: Any, row: dict[str, Any]) -> tuple[str, ...]:
    if hasattr(binding, "databases"):
        copies: tuple[str, ...] = binding.databases
        return copies
    if not hasattr(binding, "key"):
        return (binding.keyspace.database,)
    key = tuple(row[name] for name in binding.key)
    return (router.wiring.home(binding.keyspace, key).database,)
