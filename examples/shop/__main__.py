"""Make the shop's tables and fill them."""

from __future__ import annotations

from examples.shop.data import TENANTS, fill
from examples.shop.opening import open_router


def main() -> None:
    """Fill the databases, and say where each tenant lives."""
    with open_router() as router:
        fill(router)
        for tenant in TENANTS:
            print(f"{tenant:8} {router.engine_for('shop', tenant).url!r}")


if __name__ == "__main__":
    main()
