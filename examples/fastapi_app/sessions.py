"""A session for each request, as dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request
from sqlalchemy.ext.asyncio import async_sessionmaker

from examples.shop.models import Tenant
from router import AsyncRoutingSession

Maker = async_sessionmaker[AsyncRoutingSession]


def _session(request: Request) -> AsyncRoutingSession:
    """Return a new session for a request."""
    make: Maker = request.app.state.sessions
    return make()


async def _finish(session: AsyncRoutingSession) -> None:
    """Commit what a request did."""
    await session.commit()


async def _whole_shop(request: Request) -> AsyncIterator[AsyncRoutingSession]:
    """Yield a session for all tenants; commit unless the request fails."""
    async with _session(request) as session:
        yield session
        await _finish(session)


def _tenant_of(x_tenant: Annotated[str, Header(min_length=1, max_length=40)]) -> str:
    """Return the tenant of a request."""
    # A real shop takes it from who is logged in, not from what the client says.
    return x_tenant


TenantId = Annotated[str, Depends(_tenant_of)]


async def _one_tenant(request: Request, tenant: TenantId) -> AsyncIterator[AsyncRoutingSession]:
    """Yield a session that is pinned to the tenant's shard; commit unless the request fails."""
    async with _session(request) as session, session.partition(tenant, keyspace="shop"):
        if await session.get(Tenant, tenant) is None:
            raise HTTPException(404, "no such tenant")
        yield session
        # Within the partition, so that what the commit flushes is checked, too.
        await _finish(session)


# Of the scope "function": a commit that fails must fail before the answer has been sent.
ShopSession = Annotated[AsyncRoutingSession, Depends(_whole_shop, scope="function")]
TenantSession = Annotated[AsyncRoutingSession, Depends(_one_tenant, scope="function")]
