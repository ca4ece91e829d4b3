"""The Flask example: one session for each request, which ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select

from examples.flask_app import app as flask_app
from examples.flask_app.sessions import KEY, current_session, one_tenant
from examples.shop.data import TENANTS, order
from examples.shop.models import Account, Order, Tenant
from examples.shop.opening import open_router
from router import Router

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)

LINE = {"product": "chair", "quantity": 2, "cents": 4_900}
EIS = {"id": "eis", "name": "Eis", "currency_code": "EUR"}


@pytest.fixture
def router(shop: dict[str, str]) -> Iterator[Router]:
    """The router of the application."""
    with open_router() as router:
        yield router


@pytest.fixture
def app(router: Router) -> Flask:
    """An application of its own."""
    return flask_app.create_app(router)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the application."""
    return app.test_client()


def sent(number: int) -> dict[str, Any]:
    """Return an order as a client sends it."""
    return {"number": number, "customer": "Zoë", "lines": [LINE]}


def test_all_tenants_in_order(client: FlaskClient) -> None:
    """They come from both shards."""
    assert [one["id"] for one in client.get("/tenants").json] == sorted(TENANTS)


def test_an_order_from_its_making_to_its_end(client: FlaskClient) -> None:
    """It is committed with the request that made it, and gone with the one that deletes it."""
    assert client.post("/tenants/acme/orders", json=sent(7)).json == sent(7)
    assert client.get("/tenants/acme/orders/7").json == sent(7)
    assert client.get("/tenants/acme/sales").json == {"cents": 46_400 + 9_800}
    assert client.post("/tenants/acme/orders", json=sent(7)).status_code == 409
    assert client.delete("/tenants/acme/orders/7").status_code == 204
    assert client.get("/tenants/acme/orders/7").status_code == 404


def test_a_tenant_and_its_account_commit_together(client: FlaskClient, router: Router) -> None:
    """Two databases have been written when the answer comes; a second time neither is."""
    assert client.post("/tenants", json=EIS).status_code == 201
    assert client.post("/tenants", json={**EIS, "name": "Other"}).status_code == 409
    with router.sessionmaker()() as session:
        assert session.get_one(Tenant, "eis").name == "Eis"
        assert session.get_one(Account, "eis").plan == "free"


def test_tenants_of_one_shard_do_not_see_each_other(client: FlaskClient) -> None:
    """Order 7 is that of one tenant only, and each deletes its own."""
    client.post("/tenants/acme/orders", json=sent(7))
    assert client.get("/tenants/cinema/orders/7").status_code == 404
    assert client.delete("/tenants/cinema/orders/7").status_code == 404
    numbers = [one["number"] for one in client.get("/tenants/cinema/orders").json]
    assert numbers == [1, 2, 3]


def test_what_is_not_there_and_what_is_nonsense(client: FlaskClient) -> None:
    """No such order, no such tenant, no such currency, no order at all."""
    assert client.get("/tenants/acme/orders/99").status_code == 404
    assert client.get("/tenants/nobody/orders").status_code == 404
    assert client.post("/tenants", json={**EIS, "currency_code": "XXX"}).status_code == 422
    assert client.post("/tenants/acme/orders", json={"number": 7}).status_code == 422


def test_the_session_ends_with_the_request(app: Flask, router: Router) -> None:
    """Failed or not: no connection stays out, no partition stays entered, nothing is pending."""
    out = _connections_out(router)

    @app.post("/wrong")
    def wrong() -> str:
        with one_tenant("acme") as session:
            session.add_all([order("acme", 8), order("bakery", 8)])
        return ""

    @app.get("/broken")
    def broken() -> str:
        with one_tenant("acme") as session:
            session.add(order("acme", 9))
            session.flush()
            raise ZeroDivisionError

    client = app.test_client()
    refused = client.post("/wrong")
    assert (refused.status_code, refused.json) == (403, {"error": "R208"})
    assert client.get("/broken").status_code == 500
    assert out == set()
    assert not app.extensions[KEY].registry.has()
    with app.app_context():
        assert current_session().scalars(select(Order).where(Order.number > 3)).all() == []
    assert out == set()


def _connections_out(router: Router) -> set[int]:
    """Return the connections that are in use, at any time from now on."""
    out: set[int] = set()
    for engine in router.engines.values():
        event.listen(engine, "checkout", lambda dbapi, *_: out.add(id(dbapi)))
        event.listen(engine, "checkin", lambda dbapi, *_: out.discard(id(dbapi)))
    return out


def test_threads_keep_to_their_tenants(app: Flask) -> None:
    """Each of several threads has a session, and a partition, of its own."""

    def ask(tenant: str) -> list[list[str]]:
        client = app.test_client()
        answers = [client.get(f"/tenants/{tenant}/orders").json for _ in range(5)]
        return [[one["customer"] for one in answer] for answer in answers]

    with app.app_context(), one_tenant("bakery") as session:
        session.get_one(Order, ("bakery", 1)).customer = "Ölaf"
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(TENANTS, pool.map(ask, TENANTS), strict=True))
    others = ["customer 2", "customer 3"]
    for tenant, answers in found.items():
        first = "Ölaf" if tenant == "bakery" else "customer 1"
        assert answers == [[first, *others]] * 5


def test_a_shard_that_is_down(
    shop: dict[str, str], client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tenants are told to come back; those of others are served."""
    monkeypatch.setenv("SHOP_1", "sqlite:////nonexistent/shop.sqlite")
    with open_router() as router:
        client = flask_app.create_app(router).test_client()
        refused = client.get("/tenants/acme/orders")
        assert (refused.status_code, refused.json) == (503, {"error": "R501"})
        assert refused.headers["Retry-After"] == "5"
        assert client.get("/tenants/bakery/orders").status_code == 200
