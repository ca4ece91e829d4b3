"""Requests about all tenants: they go to the shards they need, and are merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from sqlalchemy import distinct, func, select

from examples.fastapi_app.schemas import Revenue, TenantIn, TenantOut
from examples.fastapi_app.sessions import ShopSession
from examples.shop.models import Account, Currency, OrderLine, Tenant

tenants = APIRouter(tags=["tenants"])


@tenants.post("/tenants", status_code=201, response_model=TenantOut)
async def create_tenant(new: TenantIn, session: ShopSession) -> Tenant:
    """Write to two databases, in one transaction."""
    if await session.get(Currency, new.currency_code) is None:
        raise HTTPException(422, "no such currency")
    tenant = Tenant(id=new.id, name=new.name, currency_code=new.currency_code)
    session.add_all([tenant, Account(tenant_id=new.id, plan=new.plan)])
    return tenant


@tenants.get("/tenants", response_model=list[TenantOut])
async def list_tenants(
    session: ShopSession,
    limit: Annotated[int, Query(gt=0, le=100)] = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Sequence[Tenant]:
    """Read a page of all shards' rows."""
    page = select(Tenant).order_by(Tenant.id).limit(limit).offset(offset)
    return (await session.scalars(page)).all()


@tenants.get("/revenue", response_model=list[Revenue])
async def revenue(session: ShopSession) -> Sequence[Any]:
    """Read groups that every shard has a part of."""
    statement = (
        select(
            Tenant.currency_code,
            func.count(distinct(OrderLine.order_number)).label("orders"),
            func.sum(OrderLine.quantity * OrderLine.cents).label("cents"),
        )
        .join(OrderLine, OrderLine.tenant_id == Tenant.id)
        .group_by(Tenant.currency_code)
        .order_by(Tenant.currency_code)
    )
    return (await session.execute(statement)).mappings().all()
