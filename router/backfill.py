"""Filling and verifying the lookup tables of unique keys, a page of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, select, tuple_
from sqlalchemy import exc as sa_exc

from router.errors import RoutingError
from router.route.binds import ShardedTable
from router.route.finding import named_by
from router.route.secondary import UniqueKey, column_of
from router.session.wiring import Wiring

ROWS = 500
"""How many rows one transaction looks at."""

MAX_SHOWN = 20
"""How many differences a report names."""

Row = tuple[Any, ...]


@dataclass(slots=True)
class LookupReport:
    """What was found out about a lookup table; `differences` names the first few.

    Parameters
    ----------
    rows:
        How many rows have a value.
    added:
        How many of them were not in the lookup table and are now.
    wrong:
        How many rows are not in the lookup table, or have the value of another row; and how
        many entries of the lookup table have no row.
    """

    name: str
    rows: int = 0
    added: int = 0
    wrong: int = 0
    differences: list[str] = field(default_factory=list)

    def differs(self, what: str) -> None:
        """Note a difference."""
        self.wrong += 1
        if len(self.differences) < MAX_SHOWN:
            self.differences.append(what)


def unique_key(wiring: Wiring, name: str) -> UniqueKey:
    """Return the unique key called `name` in the map.

    Raises
    ------
    RoutingError
        There is none, or the metadata does not have its table.
    """
    entry = wiring.shard_map.unique.get(name)
    if entry is None:
        known = ", ".join(wiring.shard_map.unique) or "none"
        raise RoutingError("R212", f"there is no unique key {name!r}; the map has {known}")
    for metadata in wiring.metadata.values():
        table = metadata.tables.get(entry.table)
        if table is not None:
            binding: Any = wiring.binds.of_table(table)
            found: UniqueKey = next(one for one in binding.unique if one.entry is entry)
            return found
    what = f"the metadata has no table {entry.table}"
    raise RoutingError("R212", what, where=entry.where, fix="name the metadata: --metadata")


def backfill(wiring: Wiring, name: str) -> LookupReport:
    """Add what a lookup table lacks, beside live traffic; it is used from then on.

    Every process must know the map's entry before this begins, so that new rows are added by
    those who write them.  Rows whose values another row has are reported, and as long as there
    are any, the lookup table is not used to find rows.

    Raises
    ------
    RoutingError
        There is no such key, or no lookup table.
    """
    unique, report = unique_key(wiring, name), LookupReport(name)
    wiring.lookups.is_complete(unique)
    for database in _shards(wiring, unique):
        for page in _pages(wiring, unique, database):
            report.rows += len(page)
            _add(wiring, unique, database, page, report)
    if not report.wrong:
        wiring.lookups.finish(unique)
    return report


def verify(wiring: Wiring, name: str) -> LookupReport:
    """Compare a lookup table with the rows of all shards; nothing is written.

    What other transactions write meanwhile may be reported; verify again to tell.
    """
    unique, report = unique_key(wiring, name), LookupReport(name)
    wiring.lookups.is_complete(unique)
    for database in _shards(wiring, unique):
        for page in _pages(wiring, unique, database):
            report.rows += len(page)
            with wiring.engines[unique.database].connect() as connection:
                known = _known(connection, unique, page)
            for row in page:
                if row not in known:
                    report.differs(f"the row {_shown(unique, row)} of {database} is not there")
    _stale(wiring, unique, report)
    return report


# -- pages of rows -----------------------------------------------------------------------------


def _columns(unique: UniqueKey) -> list[Any]:
    return [column_of(unique.table, column.name) for column in unique.lookup.columns]


def _shards(wiring: Wiring, unique: UniqueKey) -> Sequence[str]:
    binding = wiring.binds.of_table(unique.table)
    return tuple(binding.keyspace.shards.values()) if isinstance(binding, ShardedTable) else ()


def _pages(wiring: Wiring, unique: UniqueKey, database: str) -> Iterator[list[Row]]:
    """Yield the rows of a shard that have a value, in the order of what names them."""
    columns = _columns(unique)
    query = select(*columns).where(*(column.is_not(None) for column in unique.columns))
    yield from _paged(query, unique.row, columns, wiring.engines[database].connect)


def _paged(
    query: Select[Any],
    order: Sequence[Any],
    columns: Sequence[Any],
    connect: Callable[[], Connection],
) -> Iterator[list[Row]]:
    at = [next(n for n, one in enumerate(columns) if one is column) for column in order]
    last: Row | None = None
    while True:
        page_query = query.order_by(*order).limit(ROWS)
        if last is not None:
            page_query = page_query.where(tuple_(*order) > tuple_(*last))
        with connect() as connection:
            page = [tuple(row) for row in connection.execute(page_query)]
        if page:
            yield page
        if len(page) < ROWS:
            return
        last = tuple(page[-1][n] for n in at)


def _known(connection: Connection, unique: UniqueKey, page: Sequence[Row]) -> set[Row]:
    """Return those of the rows of a page that the lookup table has."""
    at = [list(unique.lookup.columns).index(unique.known_as(one)) for one in unique.row]
    keys = [tuple(row[n] for n in at) for row in page]
    named = named_by([unique.known_as(one) for one in unique.row], keys)
    return {tuple(row) for row in connection.execute(select(unique.lookup).where(named))}


# -- what differs ------------------------------------------------------------------------------


def _add(
    wiring: Wiring, unique: UniqueKey, database: str, page: list[Row], report: LookupReport
) -> None:
    """Add the rows of a page, each under a lock on it, so that it is as it is when added."""
    engine = wiring.engines[unique.database]
    with engine.connect() as connection:
        known = _known(connection, unique, page)
    columns = _columns(unique)
    at = [columns.index(column) for column in unique.row]
    for row in page:
        if row in known:
            continue
        named = named_by(unique.row, [tuple(row[n] for n in at)])
        with wiring.engines[database].begin() as locking:
            query = select(*columns).where(named).with_for_update()
            now = locking.execute(query).first()
            if now is not None and tuple(now) == row:
                _insert(engine.begin, unique, row, report)


def _insert(begin: Callable[[], Any], unique: UniqueKey, row: Row, report: LookupReport) -> None:
    names = [column.name for column in unique.lookup.columns]
    try:
        with begin() as connection:
            if row not in _known(connection, unique, [row]):
                connection.execute(unique.lookup.insert(), dict(zip(names, row, strict=True)))
                report.added += 1
    except sa_exc.IntegrityError:
        report.differs(f"the row {_shown(unique, row)} has the value of another row")


def _stale(wiring: Wiring, unique: UniqueKey, report: LookupReport) -> None:
    """Note entries of the lookup table that no row has."""
    binding: Any = wiring.binds.of_table(unique.table)
    lookup = list(unique.lookup.columns)
    columns = _columns(unique)
    at = [lookup.index(unique.known_as(one)) for one in unique.row]
    key = [lookup.index(unique.lookup.c[name]) for name in binding.key]
    order = list(unique.lookup.primary_key)
    connect = wiring.engines[unique.database].connect
    for page in _paged(select(*lookup), order, lookup, connect):
        homes: dict[str, list[Row]] = {}
        for row in page:
            home = wiring.home(binding.keyspace, tuple(row[n] for n in key))
            homes.setdefault(home.database, []).append(row)
        for database, some in homes.items():
            named = named_by(unique.row, [tuple(row[n] for n in at) for row in some])
            with wiring.engines[database].connect() as connection:
                there = {tuple(r) for r in connection.execute(select(*columns).where(named))}
            for row in some:
                if row not in there:
                    report.differs(f"no row of {database} is {_shown(unique, row)}")


def _shown(unique: UniqueKey, row: Row) -> str:
    pairs = zip(unique.lookup.columns, row, strict=True)
    return ", ".join(f"{column.name}={value!r}" for column, value in pairs)
