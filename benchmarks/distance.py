"""What distance costs: four far shards asked at once, beside one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import Select, create_engine, func, select
from sqlalchemy.orm import sessionmaker

from benchmarks.cases import flush
from benchmarks.measure import Row, measure
from benchmarks.models import SHARDS, Customer, Worlds, open_router
from benchmarks.proxy import far
from router import Router

MILLISECONDS = 5.0
LIMIT = 1.4
WRITE_MILLISECONDS = 1.0
WRITE_LIMIT = 1.2


def distances(worlds: Worlds, rounds: int) -> list[Row]:
    """Measure reads over a network that is slow both ways."""
    near = worlds.keys_of_one_shard(40)
    wide = list(range(40))
    with far_router(worlds) as router:

        def cold(call: Callable[[], None]) -> Callable[[], None]:
            def dispose_first() -> None:
                router.dispose()
                call()

            return dispose_first

        one, four = reads(router, of(near)), reads(router, of(wide))
        count_one = select(func.count()).select_from(Customer).where(Customer.id.in_(near))
        count_four = select(func.count()).select_from(Customer)
        counts = reads(router, count_four), reads(router, count_one)
        return [
            measure("40 objects by IN", (four, one), rounds, LIMIT),
            measure("the same, on new connections", (cold(four), cold(one)), rounds, LIMIT),
            measure("a count, merged", counts, rounds, LIMIT),
        ]


def far_writes(worlds: Worlds, rounds: int) -> list[Row]:
    """Measure a flush to four far shards beside one to a plain database that is as far."""
    url = worlds.single
    with (
        far_router(worlds, WRITE_MILLISECONDS) as router,
        far(str(url.host), int(url.port or 0), WRITE_MILLISECONDS) as port,
    ):
        engine = create_engine(url.set(host="127.0.0.1", port=port))
        routed, plain = router.sessionmaker(), sessionmaker(engine)
        sides = (lambda: flush(routed), lambda: flush(plain))
        found = measure("flush of 1,000 new objects", sides, rounds, WRITE_LIMIT)
        engine.dispose()
    return [found]


def of(keys: list[int]) -> Select[Any]:
    """Return the statement that selects the customers of `keys`."""
    return select(Customer).where(Customer.id.in_(keys))


def reads(router: Router, statement: Select[Any]) -> Callable[[], None]:
    """Return a call that executes `statement` in a session of its own."""
    make = router.sessionmaker()

    def call() -> None:
        with make() as session:
            session.execute(statement).all()

    return call


@contextmanager
def far_router(worlds: Worlds, milliseconds: float = MILLISECONDS) -> Iterator[Router]:
    """Yield a router over the same four shards, each behind a proxy of its own."""
    names = [f"shard{number}" for number in range(SHARDS)]
    urls = [worlds.router.engines[name].url for name in names]
    with ExitStack() as stack:
        ports = [
            stack.enter_context(far(str(url.host), int(url.port or 0), milliseconds))
            for url in urls
        ]
        moved = [
            url.set(host="127.0.0.1", port=port) for url, port in zip(urls, ports, strict=True)
        ]
        yield stack.enter_context(open_router(moved, names))
