"""A program for tests: who is connected to the databases before, during and after a fork."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from sqlalchemy import func, select
from sqlalchemy.orm import sessionmaker

from examples.process_pool import worker
from examples.shop.opening import open_router
from router import RoutingSession

SHARDS = ("shop/s0", "shop/s1")


def backends(make: sessionmaker[RoutingSession]) -> set[int | None]:
    """Return the servers' names of the connections to all shards."""
    with make() as session:
        shards = [session.connection(bind_arguments={"shard": shard}) for shard in SHARDS]
        return {shard.scalar(select(func.pg_backend_pid())) for shard in shards}


def backends_of_worker(_: int) -> set[int | None]:
    """Return those of a worker."""
    return backends(worker._Process.make)


def main() -> None:
    """Print which connections are whose."""
    with open_router() as router:
        make = router.sessionmaker()
        backends(make)
        router.dispose()
        context = get_context("fork")
        with ProcessPoolExecutor(2, mp_context=context, initializer=worker.start) as pool:
            before = backends(make)
            theirs = set().union(*pool.map(backends_of_worker, range(8)))
            after = backends(make)
    for pids in (before, after, theirs):
        print(*sorted(pids))  # noqa: T201


if __name__ == "__main__":
    main()
