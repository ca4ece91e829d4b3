"""The FastAPI example over replicas: files that are copied; tests/replicas has real ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from examples.fastapi_app.app import create_app
from examples.shop.opening import MAP
from tests.examples.test_fastapi import of, sent

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


def test_a_client_sees_what_it_wrote(
    shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever replicas have: a cookie says what its client wrote; others may see it later."""
    text_of_map = MAP.read_text(encoding="utf-8")
    for number in (0, 1):
        name = f"SHOP_{number}"
        copy = tmp_path / f"copy_{number}.sqlite"
        shutil.copy(shop[name].partition("///")[2], copy)
        plain = f'"${{{name}:-sqlite:///shop_{number}.sqlite}}"'
        assert plain in text_of_map
        text_of_map = text_of_map.replace(plain, f'{plain}, replicas: ["sqlite:///{copy}"]')
    (tmp_path / "replicas.yaml").write_text(text_of_map, encoding="utf-8")
    monkeypatch.setenv("SHOP_MAP", str(tmp_path / "replicas.yaml"))
    with TestClient(create_app()) as client:
        assert client.post("/orders", json=sent(7), headers=of("acme")).status_code == 201
        assert client.get("/orders/7", headers=of("acme")).status_code == 200
        client.cookies.clear()
        assert client.get("/orders/7", headers=of("acme")).status_code == 404
        client.cookies.set("seen", "nonsense")
        assert client.get("/orders/1", headers=of("acme")).status_code == 200
