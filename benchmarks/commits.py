"""What a commit over several databases costs, beside SQLAlchemy's two-phase and plain commits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice

from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import Session

from benchmarks.distance import WRITE_MILLISECONDS, far_router
from benchmarks.measure import Row
from benchmarks.models import ROWS, Customer, Worlds
from router import Router

THREADS = 8
IN_A_ROW = 10
KEYS = 100_000

_fresh = count(100 * ROWS)

Begin = Callable[[], Session]
"""Makes a session and writes with it, so that only the commit is left."""


def far_commits(worlds: Worlds, rounds: int) -> list[Row]:
    """Measure commits over a network that is slow both ways."""
    with far_router(worlds, WRITE_MILLISECONDS) as router, plain_engines(router) as engines:
        keys = keys_by_shard(router)
        four, two_phase = routed(router, keys, 4), begun(engines, 4, two_phase=True)
        one, alone = routed(router, keys, 1), begun(engines[:1], 1, two_phase=False)
        reading, read = routed(router, keys, 1, 3), begun(engines, 1, two_phase=True)
        return [
            commits("four writers; two-phase", (four, two_phase), rounds, 0.45),
            commits("one writer; a plain commit", (one, alone), rounds, 1.05),
            commits("one writer, three readers; two-phase", (reading, read), rounds, 0.2),
        ]


def near_commits(worlds: Worlds, rounds: int) -> list[Row]:
    """Measure commits of several threads at once, without latency."""
    router = worlds.router
    with plain_engines(router) as engines:
        keys = keys_by_shard(router)
        sides = routed(router, keys, 4), begun(engines, 4, two_phase=True)
        return [threads(f"four writers, {THREADS} threads; two-phase", sides, rounds, 1.0)]


# -- sessions that are about to commit ----------------------------------------------------------


def routed(router: Router, keys: Sequence[Iterator[int]], writers: int, readers: int = 0) -> Begin:
    """Return what makes sessions over so many shards."""
    make = router.sessionmaker()

    def begin() -> Session:
        session = make()
        for at, of_shard in enumerate(keys[: writers + readers]):
            key = next(of_shard)
            if at < writers:
                session.execute(insert(Customer).values(id=key, name="new"))
            else:
                session.execute(select(Customer.id).where(Customer.id == key)).all()
        return session

    return begin


def begun(engines: Sequence[Engine], writers: int, *, two_phase: bool) -> Begin:
    """Return what makes SQLAlchemy's sessions over the same databases."""

    def begin() -> Session:
        session = Session(twophase=two_phase)
        for at, engine in enumerate(engines):
            key, bound = next(_fresh), {"bind": engine}
            if at < writers:
                new = insert(Customer).values(id=-key, name="new")
                session.execute(new, bind_arguments=bound)
            else:
                query = select(Customer.id).where(Customer.id == key)
                session.execute(query, bind_arguments=bound).all()
        return session

    return begin


def keys_by_shard(router: Router) -> list[Iterator[int]]:
    """Return many new keys of each shard."""

    found: dict[Engine, list[int]] = {engine: [] for engine in router.engines.values()}
    # Made beforehand, so that threads can share them.
    for key in islice(_fresh, KEYS):
        found[router.engine_for("shop", key)].append(key)
    return [iter(keys) for keys in found.values()]


@contextmanager
def plain_engines(router: Router) -> Iterator[list[Engine]]:
    """Yield engines of their own for the databases of `router`."""
    made = [create_engine(engine.url) for engine in router.engines.values()]
    yield made
    for engine in made:
        engine.dispose()


# -- measuring ----------------------------------------------------------------------------------


def commits(name: str, sides: tuple[Begin, Begin], rounds: int, limit: float) -> Row:
    """Time what is left of both sides in turn: the commit, and giving connections back."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for index in (0, 1) if number % 2 else (1, 0):
            taken = statistics.median(ended(sides[index]()) for _ in range(IN_A_ROW))
            if number:
                times[index].append(taken)
    return row(name, times, limit)


def ended(session: Session) -> float:
    """Commit, and return the milliseconds it took."""
    started = time.perf_counter()
    session.commit()
    taken = (time.perf_counter() - started) * 1000
    session.close()
    return taken


def threads(name: str, sides: tuple[Begin, Begin], rounds: int, limit: float) -> Row:
    """Time the commits of several threads at once; what comes before is done before."""

    def at_once(begin: Begin) -> float:
        sessions = [begin() for _ in range(THREADS)]
        return statistics.median(pool.map(ended, sessions))

    times: tuple[list[float], list[float]] = ([], [])
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(rounds + 1):
            for index in (0, 1) if number % 2 else (1, 0):
                taken = statistics.median(at_once(sides[index]) for _ in range(IN_A_ROW))
                if number:
                    times[index].append(taken)
    return row(name, times, limit)


def row(name: str, times: tuple[list[float], list[float]], limit: float) -> Row:
    """Return medians of times, and of their ratios."""
    ours, theirs = (statistics.median(values) for values in times)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    return Row(name, ours, theirs, ratio, limit)
