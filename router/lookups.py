"""The lookup tables of unique keys in their databases, and which of them are complete.

::

    router_unique (name, complete), primary key (name)

A lookup table is kept in step by every session from the day its entry is in the map, but it
is used to find rows only when it is complete: from the beginning, where it was created
before its table had any rows, or after `router unique backfill`.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Boolean, Column, Engine, MetaData, String, Table, inspect, select, update
from sqlalchemy import exc as sa_exc

from router.engines import Engines
from router.errors import RoutingError
from router.route.secondary import UniqueKey

MARKS = Table(
    "router_unique",
    MetaData(),
    Column("name", String(64), primary_key=True),
    Column("complete", Boolean, nullable=False),
)


class Lookups:
    """Creates lookup tables, and knows which are complete.

    That a table is complete is remembered; it never ceases to be.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._complete: set[str] = set()

    def is_complete(self, unique: UniqueKey) -> bool:
        """Return whether every row is known to be in the lookup table.

        Raises
        ------
        RoutingError
            The table is not there.
        """
        name = unique.entry.name
        if name in self._complete:
            return True
        engine = self._engines[unique.database]
        query = select(MARKS.c.complete).where(MARKS.c.name == name)
        try:
            with engine.connect() as connection:
                complete = connection.scalar(query)
        except sa_exc.DBAPIError as error:
            if not inspect(engine).has_table(MARKS.name):
                raise _missing(unique) from error
            raise
        if complete is None:
            raise _missing(unique)
        if complete:
            self._complete.add(name)
        return bool(complete)

    def create(self, unique: UniqueKey, shards: Iterable[Engine]) -> None:
        """Create the lookup table; it is complete if its table has no rows on any shard."""
        engine = self._engines[unique.database]
        MARKS.create(engine, checkfirst=True)
        unique.lookup.create(engine, checkfirst=True)
        name = unique.entry.name
        with engine.begin() as connection:
            known = select(MARKS.c.name).where(MARKS.c.name == name)
            if connection.execute(known).first() is None:
                empty = not any(_has_rows(unique.table, shard) for shard in shards)
                connection.execute(MARKS.insert(), {"name": name, "complete": empty})

    def drop(self, unique: UniqueKey) -> None:
        """Drop the lookup table."""
        engine = self._engines[unique.database]
        unique.lookup.drop(engine, checkfirst=True)
        self._complete.discard(unique.entry.name)
        if inspect(engine).has_table(MARKS.name):
            with engine.begin() as connection:
                connection.execute(MARKS.delete().where(MARKS.c.name == unique.entry.name))

    def finish(self, unique: UniqueKey) -> None:
        """Note that every row is in the lookup table now."""
        with self._engines[unique.database].begin() as connection:
            mark = update(MARKS).where(MARKS.c.name == unique.entry.name)
            connection.execute(mark.values(complete=True))


def _has_rows(table: Table, engine: Engine) -> bool:
    with engine.connect() as connection:
        return connection.execute(select(1).select_from(table).limit(1)).first() is not None


def _missing(unique: UniqueKey) -> RoutingError:
    what = f"the lookup table of {unique.entry.name} is not in database {unique.database}"
    return RoutingError("R211", what, where=unique.entry.where)
