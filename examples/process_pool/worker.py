"""What runs in the processes of the pool."""

from __future__ import annotations

import os
from multiprocessing.util import Finalize
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import sessionmaker

from examples.shop.data import order
from examples.shop.models import Order, OrderLine
from examples.shop.opening import open_router
from router import RoutingSession, retry


class _Process:
    """What a process has once: `start` sets it."""

    make: sessionmaker[RoutingSession]


class Sold(NamedTuple):
    """What a task did, and which process did it."""

    pid: int
    tenant: str
    orders: int
    cents: int


def start() -> None:
    """Open a router for this process; it is closed when the process ends."""
    router = open_router()
    _Process.make = router.sessionmaker()
    # Functions of `atexit` are not called in the processes of a pool.
    Finalize(None, router.dispose, exitpriority=10)


def sell(tenant: str) -> Sold:
    """Add an order to a tenant, and count what there is."""
    return retry(_Process.make, lambda session: _sell(session, tenant))


def _sell(session: RoutingSession, tenant: str) -> Sold:
    with session.partition(tenant, keyspace="shop"):
        last = select(func.max(Order.number)).where(Order.tenant_id == tenant)
        number = (session.scalar(last) or 0) + 1
        session.add(order(tenant, number))
        cents = select(func.sum(OrderLine.quantity * OrderLine.cents))
        total = session.scalar(cents.where(OrderLine.tenant_id == tenant)) or 0
        return Sold(os.getpid(), tenant, number, int(total))
