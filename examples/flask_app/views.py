"""What the application answers."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, request
from sqlalchemy import func, select
from sqlalchemy.orm import selectinload

from examples.flask_app.sessions import current_session, one_tenant
from examples.shop.models import Account, Currency, Order, OrderLine, Tenant

views = Blueprint("shop", __name__)


@views.get("/tenants")
def list_tenants() -> list[dict[str, Any]]:
    """Read all shards, merged."""
    tenants = current_session().scalars(select(Tenant).order_by(Tenant.id))
    return [{"id": tenant.id, "name": tenant.name} for tenant in tenants]


@views.post("/tenants")
def create_tenant() -> tuple[dict[str, Any], int]:
    """Write to two databases, in one transaction."""
    session, sent = current_session(), _sent("id", "name", "currency_code")
    if session.get(Currency, sent["currency_code"]) is None:
        abort(422, "no such currency")
    session.add_all([Tenant(**sent), Account(tenant_id=sent["id"], plan="free")])
    session.commit()
    return sent, 201


@views.get("/tenants/<tenant>/orders")
def list_orders(tenant: str) -> list[dict[str, Any]]:
    """Read the tenant's rows; the shard has those of other tenants, too."""
    statement = select(Order).where(Order.tenant_id == tenant).order_by(Order.number)
    with one_tenant(tenant) as session:
        orders = session.scalars(statement.options(selectinload(Order.lines)))
        return [_shown(order) for order in orders]


@views.post("/tenants/<tenant>/orders")
def create_order(tenant: str) -> tuple[dict[str, Any], int]:
    """Write to the tenant's shard only."""
    sent = _sent("number", "customer", "lines")
    lines = [
        OrderLine(tenant_id=tenant, position=position, **line)
        for position, line in enumerate(sent["lines"], start=1)
    ]
    order = Order(tenant_id=tenant, number=sent["number"], customer=sent["customer"], lines=lines)
    with one_tenant(tenant) as session:
        session.add(order)
        session.flush()
        return _shown(order), 201


@views.get("/tenants/<tenant>/orders/<int:number>")
def read_order(tenant: str, number: int) -> dict[str, Any]:
    """Read one order."""
    with one_tenant(tenant):
        return _shown(_order(tenant, number))


@views.delete("/tenants/<tenant>/orders/<int:number>")
def delete_order(tenant: str, number: int) -> Response:
    """Delete an order and its lines."""
    with one_tenant(tenant) as session:
        session.delete(_order(tenant, number))
    return Response(status=204)


@views.get("/tenants/<tenant>/sales")
def sales(tenant: str) -> dict[str, Any]:
    """Count in the tenant's shard."""
    cents = func.coalesce(func.sum(OrderLine.quantity * OrderLine.cents), 0)
    with one_tenant(tenant) as session:
        return {"cents": int(session.scalars(select(cents).filter_by(tenant_id=tenant)).one())}


def _order(tenant: str, number: int) -> Order:
    return current_session().get(Order, (tenant, number)) or abort(404)


def _sent(*names: str) -> dict[str, Any]:
    sent = request.get_json()
    if not isinstance(sent, dict) or set(sent) != set(names):
        abort(422, f"send {', '.join(names)}")
    return sent


def _shown(order: Order) -> dict[str, Any]:
    lines = [
        {"product": line.product, "quantity": line.quantity, "cents": line.cents}
        for line in order.lines
    ]
    return {"number": order.number, "customer": order.customer, "lines": lines}
