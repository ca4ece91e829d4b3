"""A session for each request, as dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request, Response
from sqlalchemy.ext.asyncio import async_sessionmaker
from starlette.middleware.base import RequestResponseEndpoint

from examples.shop.models import Tenant
from router import AsyncRoutingSession, RoutingError

Maker = async_sessionmaker[AsyncRoutingSession]


SEEN = "seen"
"""The cookie that says what its client has written, which replicas may not have yet."""


def _session(request: Request) -> AsyncRoutingSession:
    """Return a new session for a request; it sees what the client's earlier ones wrote."""
    make: Maker = request.app.state.sessions
    session = make()
    # A cookie that nobody can read is as good as none.
    with suppress(RoutingError):
        session.after(request.cookies.get(SEEN))
    return session


async def _finish(request: Request, session: AsyncRoutingSession) -> None:
    """Commit what a request did, and note what its client has to see from now on."""
    await session.commit()
    request.state.seen = await session.token()


async def remember(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Give the client its token, once the request has been committed."""
    response = await call_next(request)
    token: str | None = getattr(request.state, "seen", None)
    if token:
        response.set_cookie(SEEN, token, max_age=300, httponly=True, samesite="lax")
    return response


async def _whole_shop(request: Request) -> AsyncIterator[AsyncRoutingSession]:
    """Yield a session for all tenants; commit unless the request fails."""
    async with _session(request) as session:
        yield session
        await _finish(request, session)


def _tenant_of(x_tenant: Annotated[str, Header(min_length=1, max_length=40)]) -> str:
    """Return the tenant of a request."""
    # A real shop takes it from who is logged in, not from what the client says.
    return x_tenant


TenantId = Annotated[str, Depends(_tenant_of)]


async def _one_tenant(request: Request, tenant: TenantId) -> AsyncIterator[AsyncRoutingSession]:
    """Yield a session of the tenant's rows alone; commit unless the request fails."""
    async with (
        _session(request) as session,
        session.partition(tenant, keyspace="shop", guard=True),
    ):
        if await session.get(Tenant, tenant) is None:
            raise HTTPException(404, "no such tenant")
        yield session
        # Within the partition, so that what the commit flushes is checked, too.
        await _finish(request, session)


# Of the scope "function": a commit that fails must fail before the answer has been sent.
ShopSession = Annotated[AsyncRoutingSession, Depends(_whole_shop, scope="function")]
TenantSession = Annotated[AsyncRoutingSession, Depends(_one_tenant, scope="function")]
