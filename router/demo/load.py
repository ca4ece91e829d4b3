"""Loading the data: each row straight to its shard, with COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Engine, Table, text

from router.demo import data
from router.demo.models import Airline, Airport, Flight, Plane, Weather
from router.router import Router
from router.schema import databases_of

Advance = Callable[[int], None]
"""Called with the number of rows loaded since the last call."""

STEP = 4096


def load(router: Router, advance: Advance) -> None:
    """Create the tables anew and fill them."""
    router.drop_all()
    router.create_all()
    copies: list[tuple[Any, Iterable[data.Row]]] = [
        (Airline, data.airlines()),
        (Airport, data.airports()),
        (Weather, data.weather()),
    ]
    for model, rows in copies:
        copy(router, model.__table__, rows, _no_key)
    copy(router, Plane.__table__, data.planes(), lambda row: row[0])
    copy(router, Flight.__table__, data.flights(), lambda row: row[1], advance)
    for name in router.engines:
        with router.engines[name].begin() as connection:
            connection.execute(text("ANALYZE"))


def copy(
    router: Router,
    table: Table | Any,
    rows: Iterable[data.Row],
    key: Callable[[data.Row], Any],
    advance: Advance | None = None,
) -> None:
    """COPY `rows` into `table`: to the shard of their key, or to every database that has it."""
    homes: dict[Any, tuple[str, ...]] = {}
    with ExitStack() as stack:
        streams = {
            name: stack.enter_context(_Stream(router.engines[name], table))
            for name in databases_of(table, router.wiring)
        }
        everywhere = tuple(streams)
        sharded = table.name in router.wiring.sharded("air").tables
        for number, row in enumerate(rows, 1):
            value = key(row)
            if value not in homes:
                homes[value] = (_home(router, value),) if sharded else everywhere
            for name in homes[value]:
                streams[name].write_row(row)
            if advance is not None and number % STEP == 0:
                advance(STEP)


def _no_key(_: data.Row) -> None:
    return None


def _home(router: Router, tailnum: str | None) -> str:
    return router.wiring.home(router.wiring.sharded("air"), tailnum).database


class _Stream:
    """A COPY into one table of one database, committed at the end."""

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._columns = ", ".join(column.name for column in table.columns)
        self._table = table.name
        self._stack = ExitStack()

    def __enter__(self) -> Any:
        connection = self._stack.enter_context(self._engine.begin())
        driver: Any = connection.connection.driver_connection
        cursor = self._stack.enter_context(driver.cursor())
        sql = f"COPY {self._table} ({self._columns}) FROM STDIN"
        return self._stack.enter_context(cursor.copy(sql))

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
