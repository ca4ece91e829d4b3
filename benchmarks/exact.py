"""What a merge saves: the same statements merged from all shards, and gathered in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Select, func, select

from benchmarks.distance import reads
from benchmarks.measure import Row, measure
from benchmarks.models import Customer, Worlds
from router import Router
from router.session.execution import Execution

LIMIT = 1.0
DIGIT = (Customer.id % 10).label("digit")

STATEMENTS: dict[str, Select[Any]] = {
    "the first ten by a number": select(Customer).order_by(Customer.id.desc()).limit(10),
    "a count": select(func.count()).select_from(Customer),
    "least and greatest": select(func.min(Customer.id), func.max(Customer.id)),
    "groups": select(DIGIT, func.count()).group_by(DIGIT),
}


def merges(worlds: Worlds, rounds: int) -> list[Row]:
    """Measure every statement in both ways."""
    router = worlds.router
    return [
        measure(name, (reads(router, statement), gathers(router, statement)), rounds, LIMIT)
        for name, statement in STATEMENTS.items()
    ]


def gathers(router: Router, statement: Select[Any]) -> Callable[[], None]:
    """Return a call that executes `statement` on copies, in a session of its own."""
    make = router.sessionmaker()

    def call() -> None:
        with make() as session:
            run = super(type(session), session).execute
            execution = Execution(run, statement, None, {}, {}, {})
            session._require_routing().gathering.execute(execution).all()

    return call
