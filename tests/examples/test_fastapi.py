"""The FastAPI example: statuses, tenants, commits, and what a client learns of errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from examples.fastapi_app.app import create_app
from examples.fastapi_app.sessions import ShopSession, TenantSession
from examples.shop.answers import STATUS, answer
from examples.shop.data import TENANTS, order
from examples.shop.models import Account, Order, Tenant
from examples.shop.opening import open_router
from router import TransactionInDoubtError
from router.catalogue import CATALOGUE

pytestmark = pytest.mark.parametrize("dialect", ["sqlite", "postgresql"], indirect=True)

LINE = {"product": "chair", "quantity": 2, "cents": 4_900}
EIS = {"id": "eis", "name": "Eis", "currency_code": "EUR"}


@pytest.fixture
def app(shop: dict[str, str]) -> FastAPI:
    """An application of its own."""
    return create_app()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client of the application, which has started."""
    with TestClient(app) as client:
        yield client


def of(tenant: str) -> dict[str, str]:
    """Return the headers of a tenant's requests."""
    return {"X-Tenant": tenant}


def sent(number: int) -> dict[str, Any]:
    """Return an order as a client sends it."""
    return {"number": number, "customer": "Zoë", "lines": [LINE]}


def test_tenants_share_shards(shop: dict[str, str]) -> None:
    """Both shards have tenants, and one has several: otherwise the rest would prove little."""
    with open_router() as router:
        places = {name: str(router.engine_for("shop", name).url) for name in TENANTS}
    assert places["acme"] == places["cinema"] != places["bakery"]


def test_pages_and_groups_of_all_shards(client: TestClient) -> None:
    """They are those of one database."""
    page = client.get("/tenants", params={"limit": 2, "offset": 1}).json()
    assert [tenant["id"] for tenant in page] == ["bakery", "cinema"]
    assert client.get("/revenue").json() == [
        {"currency_code": "EUR", "orders": 3, "cents": 92_800},
        {"currency_code": "JPY", "orders": 3, "cents": 46_400},
        {"currency_code": "USD", "orders": 3, "cents": 46_400},
    ]


def test_a_tenant_and_its_account_commit_together(client: TestClient) -> None:
    """Two databases have been written when the answer comes; a second time neither is."""
    assert client.post("/tenants", json=EIS).status_code == 201
    assert client.post("/tenants", json={**EIS, "name": "Other"}).status_code == 409
    with open_router() as router, router.sessionmaker()() as session:
        assert session.get_one(Tenant, "eis").name == "Eis"
        assert session.get_one(Account, "eis").plan == "free"


def test_half_of_a_tenant_is_not_written(client: TestClient) -> None:
    """Where the account is there already, the tenant's own shard stays as it was."""
    with open_router() as router:
        with router.sessionmaker().begin() as session:
            session.add(Account(tenant_id="eis", plan="gold"))
        assert client.post("/tenants", json=EIS).status_code == 409
        with router.sessionmaker()() as session:
            assert session.get(Tenant, "eis") is None


def test_an_order_from_its_making_to_its_end(client: TestClient) -> None:
    """It is committed with the request that made it, and gone with the one that deletes it."""
    assert client.post("/orders", json=sent(7), headers=of("acme")).json() == sent(7)
    assert client.get("/orders/7", headers=of("acme")).json() == sent(7)
    assert client.post("/orders", json=sent(7), headers=of("acme")).status_code == 409
    assert client.delete("/orders/7", headers=of("acme")).status_code == 204
    assert client.get("/orders/7", headers=of("acme")).status_code == 404


def test_tenants_of_one_shard_do_not_see_each_other(client: TestClient) -> None:
    """Order 7 is that of one tenant only, and each deletes its own."""
    client.post("/orders", json=sent(7), headers=of("acme"))
    assert client.get("/orders/7", headers=of("cinema")).status_code == 404
    assert client.delete("/orders/7", headers=of("cinema")).status_code == 404
    numbers = [one["number"] for one in client.get("/orders", headers=of("cinema")).json()]
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/orders/99", of("acme")), ("/orders/1", of("nobody")), ("/orders", of("nobody"))],
)
def test_not_found(client: TestClient, path: str, headers: dict[str, str]) -> None:
    """There is no such order, or no such tenant."""
    assert client.get(path, headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (sent(7), {}),
        (sent(7), of("x" * 41)),
        (sent(0), of("acme")),
        ({**sent(7), "lines": []}, of("acme")),
    ],
)
def test_nonsense_is_refused(client: TestClient, body: Any, headers: dict[str, str]) -> None:
    """Without a tenant, with too long a one, or with an order that is none."""
    assert client.post("/orders", json=body, headers=headers).status_code == 422


def test_a_currency_has_to_exist(client: TestClient) -> None:
    """The reference table is asked before anything is written."""
    assert client.post("/tenants", json={**EIS, "currency_code": "XXX"}).status_code == 422


def test_requests_side_by_side_keep_to_their_tenants(app: FastAPI) -> None:
    """Each of many requests at once has a session, and a partition, of its own."""

    async def main() -> list[tuple[str, int, list[int]]]:
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://shop") as client,
        ):

            async def ask(tenant: str, number: int) -> tuple[str, int, list[int]]:
                made = await client.post("/orders", json=sent(number), headers=of(tenant))
                listed = await client.get("/orders", headers=of(tenant))
                return tenant, made.status_code, [one["number"] for one in listed.json()]

            numbers = dict(zip(TENANTS, (10, 20, 30, 40), strict=True))
            return await asyncio.gather(
                *(ask(name, first + step) for step in range(4) for name, first in numbers.items())
            )

    for tenant, status, numbers in asyncio.run(main()):
        first = 10 * (1 + list(TENANTS).index(tenant))
        assert status == 201
        assert set(numbers) <= {1, 2, 3, *range(first, first + 4)}


@pytest.mark.parametrize("other", ["cinema", "bakery"])
def test_leaving_the_tenant_is_refused_before_the_commit(
    app: FastAPI, client: TestClient, other: str
) -> None:
    """Another tenant's row, on this shard or another, is found by the commit's own flush."""

    @app.post("/wrong")
    async def wrong(session: TenantSession) -> None:
        session.add_all([order("acme", 8), order(other, 8)])

    refused = client.post("/wrong", headers=of("acme"))
    assert (refused.status_code, refused.json()) == (403, {"error": "R215"})
    with open_router() as router, router.sessionmaker()() as session:
        assert session.scalars(select(Order).where(Order.number == 8)).all() == []


def test_mistakes_of_ours_are_told_by_their_id_only(app: FastAPI, client: TestClient) -> None:
    """What the map says is for the log."""

    @app.get("/blind")
    async def blind(session: ShopSession) -> None:
        await session.execute(text("SELECT 1"))

    @app.get("/locked")
    async def locked(session: ShopSession) -> None:
        pairs = select(Tenant, Order).join(Order, Order.customer == Tenant.name)
        await session.execute(pairs.with_for_update())

    assert client.get("/blind").json() == {"error": "R304"}
    assert client.get("/locked").json() == {"error": "R302"}
    assert client.get("/locked").status_code == 500


def test_a_shard_that_is_down(shop: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tenants are told to come back; those of others are served."""
    monkeypatch.setenv("SHOP_1", _nowhere(shop["SHOP_1"]))
    with TestClient(create_app()) as client:
        refused = client.get("/orders", headers=of("acme"))
        assert (refused.status_code, refused.json()) == (503, {"error": "R501"})
        assert refused.headers["Retry-After"] == "5"
        assert client.get("/tenants").status_code == 503
        assert client.get("/orders", headers=of("bakery")).status_code == 200


def _nowhere(url: str) -> str:
    if url.startswith("sqlite"):
        return f"sqlite:///{Path('/nonexistent/shop.sqlite')}"
    return "postgresql+psycopg://app@127.0.0.1:9/shop"


def test_the_ids_are_those_of_the_catalogue(dialect: str) -> None:
    """A status for an id that does not exist would be a misunderstanding."""
    assert STATUS.keys() <= CATALOGUE.keys()


def test_a_commit_in_doubt_is_not_to_be_repeated(dialect: str) -> None:
    """It has no Retry-After; the transaction's name says what to ask for later."""
    told = answer(TransactionInDoubtError("r1-x", {"shop_0": "prepared"}))
    assert (told.status, told.headers) == (500, {})
    assert told.body == {"error": "R410", "transaction": "r1-x"}
