"""SQL expressions that a flush lets the database compute: only what a row's own shard can know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table, insert, select, true, update
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.sql import ClauseElement

from router.errors import CrossShardError
from router.hooks.mappers import tables_of
from router.route.binds import Binding, ReferenceTable, ShardedTable
from router.route.clauses import looks_elsewhere
from router.route.defaults import sql_defaults
from router.route.only import Only
from router.route.rows import expressions_of
from router.route.target import Destination, Reach, Tier
from router.session.states import Placement

if TYPE_CHECKING:
    from router.session.routing import Routing

Values = dict[Column[Any], Any]

_REMEDY = "read the value first, and give the object what came back"


def gives_sql(state: InstanceState[Any]) -> bool:
    """Return whether an attribute of an object is set to an SQL expression."""
    # Asked for every row of a flush, and few classes of values are different from row to row.
    return any(map(_is_sql, set(map(type, state.dict.values()))))


@lru_cache(maxsize=1024)
def _is_sql(kind: type) -> bool:
    return issubclass(kind, ClauseElement) or hasattr(kind, "__clause_element__")


def check(
    routing: Routing, state: InstanceState[Any], placement: Placement, place: Destination
) -> None:
    """Look at what the database at `place` will compute for the row of `state`.

    Raises
    ------
    CrossShardError
        It would read rows of other databases, which it does not see.
    """
    for table in tables_of(state.mapper):
        values = _values(state, table)
        binding = routing.wiring.binds.of_table(table)
        guard = routing.pins.guard
        only = guard.only if guard is not None else None
        statement = _statement(state, placement, binding, values, only)
        if statement is not None:
            _check(routing, statement, table, place)


def _values(state: InstanceState[Any], table: Table) -> Values:
    """Return the values that a flush writes to one table of an object."""
    mapper: Mapper[Any] = state.mapper
    values: Values = {}
    for column in table.columns:
        try:
            name = mapper.get_property_by_column(column).key
        except UnmappedColumnError:
            continue
        value = state.dict.get(name)
        # Defaults are put for what is None.
        if value is not None and (state.key is None or name in state.committed_state):
            values[column] = value
    return values


def _statement(
    state: InstanceState[Any],
    placement: Placement,
    binding: Binding,
    values: Values,
    only: Only | None,
) -> Any:
    """Return a statement that reads what the row's own does; None if that reads nothing.

    To a guard, what is given may read anything: a function, for one.
    """
    table, new = binding.table, state.key is None
    defaults = [one.default if new else one.onupdate for one in table.columns if one not in values]
    given = list(expressions_of([values]))
    computed: list[Any] = [*given, *sql_defaults(defaults)]
    seen = only is not None and bool(given)
    if not seen and not any(looks_elsewhere(one, table) for one in computed):
        return None
    if isinstance(binding, ReferenceTable):
        # Its row is computed in one copy, and what came out is written to the others.
        return select(*computed)
    if new:
        return insert(table).values(values)
    # A row that moves is already there when its new values are written.
    kept = {column: one for column, one in values.items() if not _says_where(column, binding)}
    return update(table).where(*_key(state, placement, binding, only)).values(kept)


def _says_where(column: Column[Any], binding: Binding) -> bool:
    return isinstance(binding, ShardedTable) and column.name in binding.key


def _key(
    state: InstanceState[Any], placement: Placement, binding: Binding, only: Only | None
) -> Iterator[Any]:
    """Yield criteria that name the shard of the row, or all rows if the table has no shards."""
    if not isinstance(binding, ShardedTable):
        yield true()
        return
    (own,) = (one for one in placement.keys if one.reader.binding is binding)
    if only is not None:
        # It is proven to be the row's key, which may not be loaded.
        yield from (c == v for c, v in zip(own.reader.columns, only.values, strict=True))
        return
    for column, name in zip(own.reader.columns, own.names, strict=True):
        yield column == own.known(state, name)


def _check(routing: Routing, statement: Any, table: Table, place: Destination) -> None:
    around = replace(routing.circumstances(statement), hint=None, preferred=[place.database])
    target, _ = routing.wiring.planner.target(statement, None, around)
    refusal = target.refusal
    if refusal is not None:
        what = f"a value for {table.fullname} is read by one shard: {refusal.what}"
        raise CrossShardError(refusal.id, what, fix=_REMEDY)
    here = target.reach is Reach.ONE and target.destinations[0].database == place.database
    if not here or target.tier is not Tier.ONE:
        found = ", ".join(map(str, target.destinations))
        what = f"a value for {table.fullname} at {place} is read from rows of {found}"
        raise CrossShardError("R305", what, fix=_REMEDY)
