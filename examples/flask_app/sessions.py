"""The session of a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flask import Flask, abort, current_app

from examples.shop.models import Tenant
from router import Router, RoutingSession

KEY = "shop-sessions"


def install(app: Flask, router: Router) -> None:
    """Give `app` a session for each thread, which ends with each request."""
    sessions = app.extensions[KEY] = router.scoped_session()

    @app.teardown_appcontext
    def remove(_: BaseException | None) -> None:
        """Give the connections back; what has not been committed is rolled back."""
        sessions.remove()


def current_session() -> RoutingSession:
    """Return the session of this request, made when it first asks."""
    return cast(RoutingSession, current_app.extensions[KEY]())


@contextmanager
def one_tenant(tenant: str) -> Iterator[RoutingSession]:
    """Pin the request to the tenant's shard; commit unless the view fails."""
    session = current_session()
    with session.partition(tenant, keyspace="shop"):
        if session.get(Tenant, tenant) is None:
            abort(404)
        yield session
        # Within the partition, so that what the commit flushes is checked, too.
        session.commit()
