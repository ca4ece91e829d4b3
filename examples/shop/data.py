"""A few tenants and their orders."""

from __future__ import annotations

from examples.shop.models import Account, Currency, Order, OrderLine, Tenant
from router import Router

CURRENCIES = {"EUR": "Euro", "JPY": "Yen", "USD": "US dollar"}

TENANTS = {
    "acme": ("Acme Tools", "USD"),
    "bakery": ("Bäckerei Süß", "EUR"),
    "cinema": ("Cinéma Lumière", "EUR"),
    "dojo": ("Dojo Kyōto", "JPY"),
}

LINES = [("chair", 2, 4_900), ("lamp", 1, 2_500), ("rug", 1, 12_000)]
"""Product, quantity and cents."""


def order(tenant: str, number: int) -> Order:
    """Return an order of as many lines as its number says, at most three."""
    lines = [
        OrderLine(tenant_id=tenant, position=position, product=product, quantity=many, cents=cents)
        for position, (product, many, cents) in enumerate(LINES[:number], start=1)
    ]
    return Order(tenant_id=tenant, number=number, customer=f"customer {number}", lines=lines)


def fill(router: Router) -> None:
    """Make the tables, and write all rows in one transaction over all databases."""
    router.create_all()
    with router.sessionmaker().begin() as session:
        currencies = {code: Currency(code=code, name=name) for code, name in CURRENCIES.items()}
        session.add_all(currencies.values())
        for tenant, (name, code) in TENANTS.items():
            orders = [order(tenant, number) for number in (1, 2, 3)]
            session.add(Account(tenant_id=tenant, plan="free"))
            session.add(Tenant(id=tenant, name=name, currency=currencies[code], orders=orders))
