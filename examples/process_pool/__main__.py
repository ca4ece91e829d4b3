"""Let a pool of processes sell something for every tenant."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from sqlalchemy import select

from examples.process_pool.worker import sell, start
from examples.shop.models import Tenant
from examples.shop.opening import open_router


def main(method: str) -> None:
    """Read the tenants here, and do the work in processes that are started by `method`."""
    with open_router() as router:
        with router.sessionmaker()() as session:
            tenants = session.scalars(select(Tenant.id).order_by(Tenant.id)).all()
        # Nothing is open in this process while others are forked from it.
        router.dispose()
        with ProcessPoolExecutor(2, mp_context=get_context(method), initializer=start) as pool:
            for sold in pool.map(sell, tenants):
                print(sold.pid, sold.tenant, sold.orders, sold.cents)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "spawn")
