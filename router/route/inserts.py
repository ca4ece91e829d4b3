"""Where an INSERT goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, Insert, PrimaryKeyConstraint, Table, UniqueConstraint, insert
from sqlalchemy import Sequence as NumberSequence
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

from router.errors import RoutingError
from router.hooks.mappers import subject_of, tables_of
from router.hooks.statements import (
    appendages,
    conflict_columns,
    conflict_values,
    given_values,
    on_conflict,
    plain_table,
    select_names,
    selected,
)
from router.hooks.trace import is_custom
from router.ids.sequences import StripedSequence
from router.route.aim import aim
from router.route.binds import Binding, ReferenceTable, ShardedTable
from router.route.circumstances import Circumstances
from router.route.defaults import computed_defaults, sql_defaults
from router.route.only import Only
from router.route.outside import outside
from router.route.parameters import Parameters, refuse_names, strange
from router.route.reading import Reading
from router.route.rows import (
    KeyReader,
    expressions_of,
    is_left_out,
    names_of,
    parameter_rows,
    rows_of,
)
from router.route.shape import Shape
from router.route.shaping import shape_of, unfollowed
from router.route.target import Destination, Reach, Refusal, Target, refused
from router.route.texts import is_plain_value
from router.route.transfers import Transfers
from router.route.transparency import ROW_FUNCTIONS
from router.route.writes import (
    CLOCKS,
    REPEATED,
    binding_target,
    common_target,
    irregular,
    unrepeatable,
)

_PRIORITIES = frozenset(("DELAYED", "HIGH_PRIORITY", "LOW_PRIORITY"))
"""Prefixes that say when, not what."""
_COMMENT = re.compile(r"/\*(?![!M+])((?!\*/|/\*).)*\*/", re.DOTALL)
"""A comment, but for those that MySQL or MariaDB executes, and hints."""

_NEW_VALUE = re.compile(r"VALUES\(\w+\)|VALUES\(`[^`]+`\)")


class Inserts:
    """Finds the targets of INSERT statements.

    Parameters
    ----------
    reading:
        Reads the statements.
    transfers:
        Finds the targets of INSERT ... SELECT.
    """

    def __init__(self, reading: Reading, transfers: Transfers) -> None:
        self._reading = reading
        self._transfers = transfers
        self._binds = reading.binds

    def target(self, statement: Insert, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        """Return where `statement` goes with `params`, one row of them or many."""
        binding = self._binds.of_table(plain_table(statement.table))
        if around.only is not None:
            self._admit(statement, params, around.only)
        if selected(statement) is not None:
            return self._transfer(statement, binding, params, around)
        rows = _rows(statement, params)
        if next(expressions_of(parameter_rows(params)), None) is not None:
            refusal = unfollowed("its parameters contain SQL")
            return Target(Reach.REFUSED, refusal=refusal), Shape()
        mapper = subject_of(statement)
        bindings = [binding]
        if mapper is not None and params:
            # The ORM writes a row of every table of the class.
            bindings = [self._binds.of_table(table) for table in tables_of(mapper)]
        own = common_target([binding_target(one, rows, mapper, around) for one in bindings])
        own = _agreeing(own, around.hint, binding)
        prefix = _prefix_refusal(statement, bindings)
        if prefix is not None:
            return Target(Reach.REFUSED, refusal=prefix), Shape()
        for one in bindings:
            if own.reach is not Reach.REFUSED:
                own = self._with_defaults(one, mapper, rows, own, around)
        if own.reach is Reach.REFUSED:
            return own, Shape()
        return self._with_extras(statement, binding, rows, params, own, around), Shape()

    @staticmethod
    def _admit(statement: Insert, params: Any, only: Only) -> None:
        """Raise if what the rows say may not be what is written, or not all of it."""
        if statement._prefixes:
            raise outside(f"its {irregular(statement)} may replace other rows")
        only.admit_names(_strange(statement, params))

    def _transfer(
        self, statement: Insert, binding: Binding, params: Any, around: Circumstances
    ) -> tuple[Target, Shape]:
        conflict = on_conflict(statement)
        refusal = _prefix_refusal(statement, [binding])
        refusal = refusal or _default_refusal(statement, binding)
        if refusal is None and conflict is not None and isinstance(binding, ShardedTable):
            refusal = _conflict_refusal(conflict, binding, subject_of(statement))
        if refusal is not None:
            return Target(Reach.REFUSED, refusal=refusal), Shape()
        if around.only is not None:
            # As it stands in the statement that is sent, with what ON CONFLICT adds.
            extras = [statement.select, *appendages(statement), *_values_on_conflict(conflict)]
            around.only.admit(*self._extras_shape(statement, binding, extras, params))
        return self._transfers.target(statement, binding, params, around)

    def _with_extras(
        self,
        statement: Insert,
        binding: Binding,
        rows: Sequence[Any],
        params: Any,
        own: Target,
        around: Circumstances,
    ) -> Target:
        extras = [*expressions_of(rows), *appendages(statement)]
        conflict = on_conflict(statement)
        if own.split is not None:
            clauses = [*extras, *_values_on_conflict(conflict)]
            reason = irregular(statement) or _differs(clauses, binding.table)
            if reason is not None:
                what = f"rows of {binding.table.fullname} for several shards, with {reason}"
                return refused("R305", what)
        if conflict is None and not extras:
            return own
        if conflict is not None and isinstance(binding, ShardedTable):
            refusal = _conflict_refusal(conflict, binding, subject_of(statement))
            if refusal is not None:
                return Target(Reach.REFUSED, refusal=refusal)
        return self._beside(statement, binding, extras, params, own, around)

    def _with_defaults(
        self,
        binding: Binding,
        mapper: Any,
        rows: Sequence[Mapping[Any, Any]],
        own: Target,
        around: Circumstances,
    ) -> Target:
        """Return where rows go whose defaults are computed from other rows."""
        table, far = binding.table, binding.far_defaults
        if not any(is_left_out(one, row, mapper) for one in far for row in rows):
            return own
        computed = computed_defaults(table)
        probe = insert(table).values({**dict.fromkeys(table.columns), **computed})
        return self._beside(probe, binding, list(computed.values()), None, own, around)

    def _beside(
        self,
        statement: Insert,
        binding: Binding,
        extras: Sequence[Any],
        params: Any,
        own: Target,
        around: Circumstances,
    ) -> Target:
        """Return `own` if what the expressions in `extras` read is there, too."""
        shape, parameters = self._extras_shape(statement, binding, extras, params)
        if around.only is not None:
            around.only.admit(shape, parameters)
        if shape.refusal is not None:
            return Target(Reach.REFUSED, refusal=shape.refusal)
        if not shape.tables:
            return own
        if own.split is not None:
            return _beside_copies(own, shape)
        near = replace(around, hint=None, preferred=[one.database for one in own.destinations])
        return common_target([own, aim(shape, parameters, self._binds.shard_map, near)])

    def _extras_shape(
        self, statement: Insert, binding: Binding, extras: Iterable[Any], params: Any
    ) -> tuple[Shape, Parameters]:
        single = params if isinstance(params, dict) else {}
        # Rows beside values: they have the keys that the values lack.
        keys = (
            [one.key for one in binding.table.primary_key]
            if params and any(given_values(statement))
            else None
        )
        shape, read = self._reading.write(
            statement,
            ("INSERT", *(keys or ()), *sorted(single)),
            lambda binds: self._shape_of_extras(statement, binding, extras, binds, keys),
        )
        return shape, read(single)

    def _shape_of_extras(
        self,
        statement: Insert,
        binding: Binding,
        extras: Iterable[Any],
        binds: Sequence[Any],
        keys: list[str] | None,
    ) -> Shape:
        facts = self._reading.facts(statement, binds, keys)
        facts.read_insert(extras)
        # The table written to is not read from.
        facts.trace.tables.discard(binding.table)
        # How MySQL calls the row that an ON DUPLICATE KEY clause is about.
        facts.trace.texts[:] = [one for one in facts.trace.texts if not _NEW_VALUE.fullmatch(one)]
        fresh = names_of(binding.table, subject_of(statement))
        shape = replace(shape_of(facts, self._binds), fresh=fresh)
        table = binding.table.fullname
        if isinstance(binding, ReferenceTable):
            reason = unrepeatable(facts.trace, statement)
            reason = reason or (f"the table {shape.tables[0]}" if shape.tables else None)
            if reason is not None:
                what = f"a value for reference table {table} comes from {reason}"
                return Shape(refusal=Refusal("R308", what))
        return shape.alone_for(Refusal("R305", f"a value for {table} is read from other tables"))


def _rows(statement: Insert, params: Any) -> list[Mapping[Any, Any]]:
    """Return the rows of an INSERT; raise if parameters may stand for values in one of many."""
    if params and statement._multi_values:
        refuse_names(_strange(statement, params))
    return rows_of(statement, params)


def _strange(statement: Insert, params: Any) -> set[str]:
    """Return the names of values that may stand for others than a column of the table."""
    mapper = subject_of(statement)
    tables = tables_of(mapper) or [plain_table(statement.table)]
    known = frozenset[str]().union(*(names_of(table, mapper) for table in tables))
    given = (name for row in parameter_rows(params) for name in row)
    return strange(given, known)


def _beside_copies(own: Target, shape: Shape) -> Target:
    """Return `own` if every shard can read what the values need from its own copies."""
    copies = shape.common_copies()
    here = copies is not None and all(one.database in copies for one in own.destinations)
    if shape.constraints or shape.unsharded or not here:
        return refused("R305", f"values for rows of several shards are read from {shape.names}")
    return own


def _differs(clauses: Sequence[Any], table: Table) -> str | None:
    """Return what in rows for several shards would differ from rows of one database."""
    defaults: list[Any] = [column.default for column in table.columns]
    for default in defaults:
        if default is not None and default.is_sequence and not isinstance(default, StripedSequence):
            return f"a sequence that each shard has, for {default.column.name}"
    parts = [
        part for clause in (*clauses, *sql_defaults(defaults)) for part in visitors.iterate(clause)
    ]
    nested = any(isinstance(part, SelectBase) for part in parts)
    known = REPEATED | ROW_FUNCTIONS | (frozenset() if nested else CLOCKS)
    for part in parts:
        text = isinstance(part, TextClause) and not is_plain_value(part.text)
        if text or isinstance(part, NumberSequence) or is_custom(part):
            return f"the text {str(part)[:60]!r}"
        if isinstance(part, FunctionElement) and _name(part) not in known:
            return f"the function {_name(part)}()"
    return None


def _name(function: Any) -> str:
    names = (*getattr(function, "packagenames", ()), getattr(function, "name", ""))
    return ".".join(map(str, names)).lower()


def _default_refusal(statement: Insert, binding: Binding) -> Refusal | None:
    """Return why the rows of an INSERT ... SELECT cannot get their defaults, or None."""
    given = set(select_names(statement))
    for column in binding.far_defaults:
        if column.key not in given:
            what = f"a default for {binding.table.fullname}.{column.name} is read from other rows"
            return Refusal("R305", what, fix="select a value for this column, too")
    return None


def _prefix_refusal(statement: Insert, bindings: Sequence[Binding]) -> Refusal | None:
    """Return why a row on another shard may matter to a word such as IGNORE, or None."""
    words = [str(text).strip() for text, *_ in getattr(statement, "_prefixes", ())]
    if all(word.upper() in _PRIORITIES or _COMMENT.fullmatch(word) for word in words):
        return None
    for binding in bindings:
        if isinstance(binding, ShardedTable):
            refusal = _reached_refusal(None, binding)
            if refusal is not None:
                return refusal
    return None


def _values_on_conflict(conflict: Any) -> list[Any]:
    if conflict is None:
        return []
    found = [*conflict_values(conflict).values(), getattr(conflict, "update_whereclause", None)]
    return [one for one in found if isinstance(one, ClauseElement)]


def _agreeing(target: Target, hint: Destination | None, binding: Binding) -> Target:
    if hint is None or target.reach is Reach.REFUSED or target.destinations == (hint,):
        return target
    homes = ", ".join(str(home) for home in target.destinations)
    return refused("R305", f"the rows of {binding.table.fullname} belong to {homes}, not to {hint}")


# -- ON CONFLICT -------------------------------------------------------------------------------


def _conflict_refusal(conflict: Any, binding: ShardedTable, mapper: Any) -> Refusal | None:
    """Return why a row on another shard may matter to an ON CONFLICT clause, or None."""
    table = binding.table
    reader = KeyReader(binding, mapper)
    if reader.names_key(conflict_values(conflict)):
        key = " and ".join(binding.key)
        what = f"cannot route ON CONFLICT on {table.fullname}: it changes the shard key {key}"
        return Refusal("R203", what, error=RoutingError)
    return _reached_refusal(conflict, binding)


def _reached_refusal(conflict: Any, binding: ShardedTable) -> Refusal | None:
    """Return the refusal of a clause that looks for rows of the same key, or None."""
    table = binding.table
    for columns in _conflict_targets(conflict, table):
        if not set(binding.key) <= columns:
            names = ", ".join(sorted(columns))
            what = f"a row of {table.fullname} with the same {names} may be on another shard"
            return Refusal("R305", what, fix="look for the row first, then insert or update it")
    return None


def _conflict_targets(conflict: Any, table: Table) -> Iterator[set[str]]:
    """Yield the columns of every unique key whose conflicts the clause handles."""
    named = conflict_columns(conflict)
    if named:
        yield named
        return
    for constraint in table.constraints:
        if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)):
            yield {column.name for column in constraint.columns}
    for index in table.indexes:
        if index.unique:
            yield {one.name for one in map(_sorted, index.expressions) if isinstance(one, Column)}


def _sorted(element: Any) -> Any:
    """Return what an index sorts; rows of different keys may agree on what it computes."""
    while getattr(element, "modifier", None) is not None:
        element = element.element
    return element
