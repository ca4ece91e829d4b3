"""UPDATE and DELETE in two steps: their rows are found and locked, then written by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Delete, false, select, type_coerce
from sqlalchemy.orm.attributes import flag_modified

from router.errors import CrossShardError, RoutingError
from router.hooks.dml import with_criteria
from router.hooks.evaluation import Strategy, matched, strategy_of
from router.hooks.statements import plain_table, resolved
from router.hooks.written import Counted, written
from router.route.finding import Finding, finding_of, named_by
from router.route.target import Target, Tier
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing

KEYS = 500
"""How many rows are locked, loaded or written by one statement."""

FOUND = "router_found"
"""The execution option of a write whose rows have been found and locked."""

Row = tuple[Any, ...]


class Finders:
    """The writes of one session whose rows are found before they are written."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def execute(self, execution: Execution, target: Target) -> Any:
        """Find the rows of a write, lock them, and write those that are still as found.

        Raises
        ------
        CrossShardError
            There are too many, or another transaction has changed one meanwhile.
        """
        statement = resolved(execution.statement)
        binding: Any = self._routing.wiring.binds.of_table(plain_table(statement.table))
        finding = finding_of(statement, binding, moves=target.tier is Tier.MOVED)
        if finding is None:
            raise RoutingError("R305", f"the write to {binding.table.fullname} has changed")
        options = {**_reading(execution.options), **execution.flushed(self._routing.session)}
        found = self._found(execution, finding, options)
        rows = {key: found[key] for key in self._locked(execution, finding, found, options)}
        with self._evaluating(execution, finding, rows):
            if target.tier is Tier.MOVED:
                return self._moved(execution, finding, rows, options)
            with self._routing.writes.tearing_shards():
                result = self._written(execution, finding, rows)
                self._keep(statement, list(rows))
            return result

    @contextmanager
    def _evaluating(
        self, execution: Execution, finding: Finding, rows: Mapping[Row, Any]
    ) -> Iterator[None]:
        """Let objects that match as the session has them follow, whose rows do not match."""
        statement, mapper = resolved(execution.statement), finding.mapper
        if mapper is None or (
            strategy_of(statement, mapper, execution.options) is not Strategy.EVALUATE
        ):
            yield
            return
        width = len(mapper.primary_key)
        others = matched(self._routing.session, statement, mapper).without(
            {key[:width] for key in rows}
        )
        yield
        others.synchronise()

    def _keep(self, statement: Any, keys: list[Row]) -> None:
        """Bring lookup tables in step with the rows that were written."""
        unique = self._routing.unique
        if unique is None:
            return
        for one in unique.of(statement):
            if isinstance(statement, Delete):
                unique.remove(one, keys)
            else:
                unique.read_again(one, keys)

    # -- finding ---------------------------------------------------------------------------

    def _found(
        self, execution: Execution, finding: Finding, options: Mapping[str, Any]
    ) -> dict[Row, tuple[Row, Row]]:
        """Return what the criteria saw of each row, and its computed values, by its keys."""
        result = self._read(execution, finding.query, options)
        limit = self._routing.wiring.shard_map.gather_max_rows
        rows = result.fetchmany(limit + 1)
        result.close()
        if len(rows) > limit:
            table = _name(execution)
            raise CrossShardError("R310", f"more than {limit} rows of {table} are to be written")
        keys, ends = len(finding.keys), len(finding.keys) + len(finding.seen)
        return {tuple(row[:keys]): (tuple(row[keys:ends]), tuple(row[ends:])) for row in rows}

    def _locked(
        self,
        execution: Execution,
        finding: Finding,
        found: Mapping[Row, tuple[Row, Row]],
        options: Mapping[str, Any],
    ) -> Iterator[Row]:
        """Lock the rows; yield the keys of those that are still there."""
        for some in chunks(list(found)):
            query = select(*finding.keys, *finding.seen).where(named_by(finding.keys, some))
            width = len(finding.keys)
            for row in self._read(execution, query.with_for_update(), options):
                key = tuple(row[:width])
                if not all(map(_same, found[key][0], row[width:])):
                    what = f"rows of {_name(execution)} have changed since they were found"
                    raise CrossShardError("R312", what)
                yield key

    def _read(self, execution: Execution, query: Any, options: Mapping[str, Any]) -> Any:
        reading = execution.of(query, None)
        return self._routing.dispatch(reading.under(options))

    # -- writing ---------------------------------------------------------------------------

    def _written(
        self, execution: Execution, finding: Finding, rows: Mapping[Row, tuple[Row, Row]]
    ) -> Any:
        statement = resolved(execution.statement)
        alike: dict[str, list[Row]] = {}
        for key, (_, computed) in rows.items():
            alike.setdefault(repr(computed), []).append(key)
        parts = [
            with_criteria(
                statement,
                named_by(finding.keys, some),
                _as_computed(finding.computed, rows[some[0]][1]),
            )
            for keys in alike.values()
            for some in chunks(keys)
        ]
        parts = parts or [with_criteria(statement, false(), {})]
        return written([self._write(execution.of(one, None)) for one in parts])

    def _write(self, part: Execution) -> Any:
        part = part.under({**part.options, FOUND: True})
        plan = self._routing.plan(part)
        if plan[0].tier in (Tier.FOUND, Tier.MOVED):
            raise CrossShardError("R305", f"a write to {_name(part)} that no shard can decide")
        return self._routing.dispatch(part, plan)

    def _moved(
        self,
        execution: Execution,
        finding: Finding,
        rows: Mapping[Row, tuple[Row, Row]],
        options: Mapping[str, Any],
    ) -> Any:
        """Let the unit of work write the rows, which knows how to move them."""
        mapper: Any = finding.mapper
        name = partial(_attribute, mapper)
        given = {name(column): value for column, value in finding.values.items()}
        place = {attribute.key for attribute in finding.keys}
        count = 0
        for some in chunks(list(rows)):
            query = select(mapper).where(named_by(finding.keys, some))
            for one in self._read(execution, query, options).scalars().all():
                key = tuple(getattr(one, attribute.key) for attribute in finding.keys)
                computed = zip(map(name, finding.computed), rows[key][1], strict=True)
                for attribute, value in {**given, **dict(computed)}.items():
                    setattr(one, attribute, value)
                    if attribute not in place:
                        # Written, whatever the session believes the row to have.
                        flag_modified(one, attribute)
                count += 1
        self._routing.session.flush()
        return Counted(count)


def _as_computed(columns: Sequence[Any], values: Row) -> dict[Any, Any]:
    # As expressions that Python cannot evaluate: objects in the session read them anew, since
    # the database may round what it is given.
    pairs = zip(columns, values, strict=True)
    return {column: type_coerce(value, column.type) for column, value in pairs}


def chunks(keys: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield as many keys at a time as one statement may name."""
    for start in range(0, len(keys), KEYS):
        yield keys[start : start + KEYS]


def _attribute(mapper: Any, column: Any) -> str:
    return str(mapper.get_property_by_column(column).key)


def _reading(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in options.items() if key not in ("synchronize_session",)}


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) or (left != left and right != right)


def _name(execution: Execution) -> str:
    return str(plain_table(resolved(execution.statement).table).fullname)
