"""INSERT ... SELECT whose rows belong elsewhere: they are read first, then inserted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from router.errors import CrossShardError
from router.hooks.dml import computed_default
from router.hooks.statements import on_conflict, plain_table, resolved, select_names, without_select
from router.hooks.written import Nothing, written
from router.route.target import Target
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing

ROWS = 5000
"""How many rows are inserted at a time."""

VALUES = 10_000
"""How many values one statement is given, where it has them all in its text."""


class Transferring:
    """The INSERT ... SELECT statements of one session that pass through it."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def execute(self, execution: Execution, target: Target) -> Any:
        """Read the rows as any SELECT is read, and insert them where their keys say.

        All are read before the first is inserted: none of the new ones may be read.
        """
        del target  # The new rows are routed when their keys are known.
        statement = resolved(execution.statement)
        options = execution.flushed(self._routing.session)
        rows = self._read(statement, execution, options)
        fixed = dict(_once(statement))
        names = select_names(statement)
        given = [{**fixed, **dict(zip(names, row, strict=True))} for row in rows]
        into = without_select(statement)
        # Drivers may not take values of such a clause beside several sets of parameters.
        alone = on_conflict(statement) is not None
        size = max(1, VALUES // (len(names) + len(fixed))) if alone else ROWS
        parts = [given[start : start + size] for start in range(0, len(given), size)]
        execute = self._routing.session.execute
        results = [execute(into.values(p)) if alone else execute(into, p) for p in parts]
        return written(results) if results else Nothing()

    def _read(self, statement: Any, execution: Execution, options: Any) -> list[Any]:
        limit = self._routing.wiring.shard_map.gather_max_rows
        result = self._routing.session.execute(
            statement.select, execution.params, execution_options={**execution.options, **options}
        )
        rows = result.fetchmany(limit + 1)
        result.close()
        if len(rows) > limit:
            table = plain_table(statement.table).fullname
            what = f"the INSERT into {table} selects more than {limit} rows from other places"
            raise CrossShardError("R310", what)
        return list(rows)


def _once(statement: Any) -> Iterator[tuple[str, Any]]:
    """Yield defaults that SQLAlchemy computes once for all rows of an INSERT ... SELECT."""
    if not statement.include_insert_from_select_defaults:
        return
    given = set(select_names(statement))
    for column in plain_table(statement.table).columns:
        default: Any = column.default
        if column.key not in given and default is not None and default.is_callable:
            try:
                yield column.key, computed_default(default, column, {})
            except LookupError as error:
                raise CrossShardError("R305", str(error.args[0])) from error
