"""Unique keys over all shards, as one session keeps and uses them.

Every row with such a key has a row in the lookup table, written in the same transaction.  Its
primary key is what makes a second row with the same values impossible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Delete, Insert, Update, select

from router.errors import CrossShardError
from router.hooks.mappers import subject_of
from router.hooks.statements import (
    on_conflict,
    resolved,
    selected,
)
from router.route.finding import named_by
from router.route.outside import UNGUARDED
from router.route.rows import KeyReader, rows_of
from router.route.secondary import Secondary, UniqueKey
from router.route.updates import is_bulk, unique_keys_of
from router.route.writes import irregular
from router.session.defaults import completed, value_of
from router.session.execution import Execution
from router.session.finding import chunks
from router.shardmap.functions.protocol import Key

if TYPE_CHECKING:
    from router.session.routing import Routing

Row = tuple[Any, ...]
Values = Mapping[str, Any]

_WRITES = re.compile(r"\b(insert|update|delete|merge|replace|truncate|call|do|load|copy)\b")
_LOCKS = re.compile(r"\bfor\s+(no\s+key\s+)?update\b")


class UniqueKeys:
    """The lookup tables as one session sees them."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._wiring = routing.wiring

    # -- reading ---------------------------------------------------------------------------

    def seek(self, secondary: Secondary, keys: Sequence[Key]) -> frozenset[str] | None:
        """Return the shards of the rows with these values; None if that is not known yet."""
        unique = secondary.unique
        if unique is None or not self._wiring.lookups.is_complete(unique):
            return None
        binding: Any = self._wiring.binds.of_table(unique.table)
        reader = KeyReader(binding, None)
        named = named_by([unique.known_as(one) for one in unique.columns], keys)
        query = select(*(unique.known_as(one) for one in reader.columns)).where(named)
        found = self._connection(unique).execute(query)
        homes = (
            self._wiring.home(binding.keyspace, tuple(row), self._routing.locate) for row in found
        )
        return frozenset(str(home.shard).partition("/")[2] for home in homes)

    # -- writing ---------------------------------------------------------------------------

    def add(self, unique: UniqueKey, rows: Iterable[Values]) -> None:
        """Take the values of new rows, which are given by column; NULL is never taken."""
        known = [row for row in rows if all(row[name] is not None for name in unique.entry.columns)]
        if known:
            names = [column.name for column in unique.lookup.columns]
            given = [{name: row[name] for name in names} for row in known]
            self._writing(unique).execute(unique.lookup.insert(), given)

    def remove(self, unique: UniqueKey, keys: Sequence[Row]) -> None:
        """Free the values of rows that are named by their `UniqueKey.row`."""
        row = [unique.known_as(column) for column in unique.row]
        for some in chunks(keys):
            named = named_by(row, some)
            self._writing(unique).execute(unique.lookup.delete().where(named))

    def renew(self, unique: UniqueKey, key: Row, row: Values) -> None:
        """Take the values that the row of `key` has now instead of those that it had."""
        self.remove(unique, [key])
        self.add(unique, [row])

    def _connection(self, unique: UniqueKey) -> Connection:
        return self._routing.session._connection_to(unique.database)

    def _writing(self, unique: UniqueKey) -> Connection:
        self._routing.writes.note(unique.database)
        return self._connection(unique)

    # -- statements ------------------------------------------------------------------------

    @contextmanager
    def kept(self, execution: Execution) -> Iterator[Execution]:
        """Keep the lookup tables in step with a write that is made in the context.

        Yields the execution to make, perhaps with values that it had left to defaults.  Rows
        that are found first, and those of a flush, are taken care of where they are written.

        Raises
        ------
        CrossShardError
            It cannot be told which values the rows get.
        """
        statement = resolved(execution.statement)
        unique = self.of(statement)
        # Rows that are read first are inserted by statements of their own.
        if unique and isinstance(statement, Insert) and selected(statement) is None:
            execution, rows = self._new_rows(execution, unique)
            with self._torn_by_failure(unique, rows):
                yield execution
            return
        yield execution
        if unique and execution.params and is_bulk(statement):
            with self._routing.writes.tearing_shards():
                self._named_rows(execution, unique)

    def of(self, statement: Any) -> tuple[UniqueKey, ...]:
        """Return the unique keys of the tables that a DML statement writes to."""
        if not isinstance(statement, (Insert, Update, Delete)):
            return ()
        return unique_keys_of(statement, self._wiring.binds)

    def refuse_unseen(self, statement: Any) -> None:
        """Refuse a statement whose writes are not seen, if it may write to a unique key."""
        sql = _LOCKS.sub("", str(getattr(statement, "element", statement)).lower())
        if not _WRITES.search(sql):
            return
        for entry in self._wiring.shard_map.unique.values():
            if entry.table.rpartition(".")[2].lower() in sql:
                raise untold(f"SQL text, or a part of a query, that may write to {entry.table}")

    def _new_rows(
        self, execution: Execution, unique: Sequence[UniqueKey]
    ) -> tuple[Execution, list[Values]]:
        statement = resolved(execution.statement)
        special = irregular(statement)
        if special is not None or on_conflict(statement) is not None:
            raise untold(f"an INSERT with {special or 'ON CONFLICT'}")
        mapper = subject_of(statement)
        columns = list(dict.fromkeys(c for one in unique for c in (*one.columns, *one.row)))
        execution = completed(execution, columns, mapper)
        statement = resolved(execution.statement)
        given = rows_of(statement, execution.params)
        rows: list[Values] = [{c.name: value_of(r, c, mapper) for c in columns} for r in given]
        return execution, rows

    @contextmanager
    def _torn_by_failure(
        self, unique: Sequence[UniqueKey], rows: Sequence[Values]
    ) -> Iterator[None]:
        begun = False
        try:
            for one in unique:
                self.add(one, rows)
                begun = True
            yield
        except BaseException as error:
            if begun or len(rows) > 1:
                self._routing.writes.tear_shards(error)
            raise

    def _named_rows(self, execution: Execution, unique: Sequence[UniqueKey]) -> None:
        """Renew the values of rows that an ORM UPDATE names by their primary keys."""
        mapper = subject_of(resolved(execution.statement))
        params = execution.params
        given = params if isinstance(params, (list, tuple)) else [params]
        for one in unique:
            keys = [tuple(value_of(row, c, mapper) for c in one.row) for row in given]
            rows = self._rows(one, keys)
            # One after another, as they were written.
            for key in keys:
                if key in rows:
                    self.renew(one, key, rows[key])

    def read_again(self, unique: UniqueKey, keys: Sequence[Row]) -> None:
        """Renew the values of rows that one statement has written."""
        rows = self._rows(unique, keys)
        self.remove(unique, keys)
        self.add(unique, rows.values())

    def _rows(self, unique: UniqueKey, keys: Sequence[Row]) -> dict[Row, Values]:
        """Return the values of rows by what names them, read from where they are."""
        columns = list(dict.fromkeys((*unique.row, *unique.columns)))
        width = len(unique.row)
        found: dict[Row, Values] = {}
        for some in chunks(keys):
            named = named_by(unique.row, some)
            query = select(*columns).where(named)
            # A guard has let the keys through that name the rows.
            for row in self._routing.session.execute(query, execution_options={UNGUARDED: True}):
                values = {c.name: value for c, value in zip(columns, row, strict=True)}
                found[tuple(row[:width])] = values
        return found


def untold(what: str) -> CrossShardError:
    """Return the error for a write whose effect on a lookup table cannot be told."""
    return CrossShardError("R313", what)
