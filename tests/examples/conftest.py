"""The shop of the examples, on fresh databases that its map finds in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.shop.data import fill
from examples.shop.opening import MAP, open_router
from tests.conftest import MakeDatabases

VARIABLES = ("SHOP_MAIN", "SHOP_0", "SHOP_1")
ONE_BY_ONE = "transactions: { two_phase: false }"


@pytest.fixture
def shop(
    dialect: str, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Fill a shop on databases of the `dialect`; return the variables that name them."""
    urls = make_databases(dialect, len(VARIABLES))
    variables = dict(zip(VARIABLES, urls, strict=True))
    if dialect != "sqlite":
        # As the file says: it is for SQLite only.
        text = MAP.read_text(encoding="utf-8")
        assert ONE_BY_ONE in text
        (tmp_path / "shards.yaml").write_text(text.replace(ONE_BY_ONE, ""), encoding="utf-8")
        variables["SHOP_MAP"] = str(tmp_path / "shards.yaml")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with open_router() as router:
        fill(router)
    return variables
