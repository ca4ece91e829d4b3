"""The shop's router."""

from __future__ import annotations

import os
from pathlib import Path

from examples.shop.models import Base
from router import Router

MAP = Path(__file__).with_name("shards.yaml")


def open_router() -> Router:
    """Return a router over the databases of the map that $SHOP_MAP names, or of ours."""
    return Router.from_yaml(os.environ.get("SHOP_MAP", MAP), metadata=Base.metadata)
