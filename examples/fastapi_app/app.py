"""The application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError

from examples.fastapi_app.orders import orders
from examples.fastapi_app.sessions import remember
from examples.fastapi_app.tenants import tenants
from examples.shop.answers import answer
from examples.shop.opening import open_router
from router import RouterError

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Have a router while the application runs: one for each worker process."""
    async with open_router() as router:
        # Objects are still read when the answer is made.
        app.state.sessions = router.async_sessionmaker(expire_on_commit=False)
        yield


async def failed(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that a database, or the map, has refused."""
    if not isinstance(error, (RouterError, DBAPIError)):
        raise error
    status, body, headers = answer(error)
    log.warning("%s %s: %s, since %s", request.method, request.url.path, status, error)
    return JSONResponse(body, status, headers)


def create_app() -> FastAPI:
    """Return the application; its databases are opened when it starts."""
    app = FastAPI(title="shop", lifespan=lifespan)
    app.middleware("http")(remember)
    app.include_router(tenants)
    app.include_router(orders)
    app.add_exception_handler(RouterError, failed)
    app.add_exception_handler(DBAPIError, failed)
    return app


app = create_app()
