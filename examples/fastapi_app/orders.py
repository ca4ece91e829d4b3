"""Requests of one tenant: nothing in them leaves the tenant's shard."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, HTTPException
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from examples.fastapi_app.schemas import OrderIn, OrderOut
from examples.fastapi_app.sessions import TenantId, TenantSession
from examples.shop.models import Order, OrderLine
from router import AsyncRoutingSession

orders = APIRouter(prefix="/orders", tags=["orders"])


@orders.get("", response_model=list[OrderOut])
async def list_orders(session: TenantSession) -> Sequence[Order]:
    """Read the tenant's rows: the shard has those of other tenants, and the guard hides them."""
    statement = select(Order).order_by(Order.number)
    return (await session.scalars(statement.options(selectinload(Order.lines)))).all()


@orders.post("", status_code=201, response_model=OrderOut)
async def create_order(new: OrderIn, tenant: TenantId, session: TenantSession) -> Order:
    """Write to the tenant's shard only."""
    lines = [
        OrderLine(tenant_id=tenant, position=position, **line.model_dump())
        for position, line in enumerate(new.lines, start=1)
    ]
    order = Order(tenant_id=tenant, number=new.number, customer=new.customer, lines=lines)
    session.add(order)
    return order


@orders.get("/{number}", response_model=OrderOut)
async def read_order(number: int, tenant: TenantId, session: TenantSession) -> Order:
    """Read one order."""
    return await _order(session, tenant, number)


@orders.delete("/{number}", status_code=204)
async def delete_order(number: int, tenant: TenantId, session: TenantSession) -> None:
    """Delete an order and its lines."""
    await session.delete(await _order(session, tenant, number))


async def _order(session: AsyncRoutingSession, tenant: str, number: int) -> Order:
    found = await session.get(Order, (tenant, number), options=[selectinload(Order.lines)])
    if found is None:
        raise HTTPException(404, "no such order")
    return found
