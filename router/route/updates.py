"""Where an UPDATE or DELETE goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, Join, Table, Update
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import FunctionElement

from router.errors import RoutingError
from router.hooks.mappers import is_named_by, subject_of, tables_of
from router.hooks.statements import appendages, given_values, plain_table
from router.route.aim import aim
from router.route.binds import BindTable, ReferenceTable, ShardedTable
from router.route.circumstances import Circumstances
from router.route.clauses import looks_elsewhere
from router.route.defaults import sql_defaults
from router.route.facts import Facts, UnreadableError
from router.route.finding import finding_of
from router.route.parameters import Parameters
from router.route.reading import Reading
from router.route.rows import KeyReader, expressions_of, is_given, is_left_out, names_of
from router.route.secondary import UniqueKey
from router.route.several import destinations_of
from router.route.shape import Shape
from router.route.shaping import shape_of
from router.route.target import Destination, Reach, Refusal, Target, Tier, refused
from router.route.writes import (
    CLOCKS,
    REPEATED,
    common_target,
    irregular,
    row_target,
    split_target,
    table_target,
    unrepeatable,
)

Read = Callable[[Any, Any, Circumstances], tuple[Target, Shape]]

_AVOIDABLE = frozenset(("R203", "R301", "R302", "R303", "R305"))
_FOUND = "its rows are found and locked first, then written by their keys"


class Updates:
    """Finds the targets of UPDATE and DELETE statements."""

    def __init__(self, reading: Reading, read: Read) -> None:
        self._reading = reading
        self._read = read
        self._binds = reading.binds

    def target(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        """Return where `statement` goes with `params`, one row of them or many."""
        rows = params if params and isinstance(params, (list, tuple)) else [params]
        if rows is params and is_bulk(statement):
            return self._bulk(statement, rows, around), Shape()
        shape, read, names = self._read_shape(statement, rows)
        shard_map = self._binds.shard_map
        targets = [_fanned(aim(shape, read(row), shard_map, around)) for row in rows]
        target = targets[0] if len(targets) == 1 else _split(targets)
        refusal = target.refusal
        unique = () if around.found else unique_keys_of(statement, self._binds)
        followed = any(touches_unique(statement, one, names) for one in unique)
        if refusal is None and followed:
            refusal = Refusal("R313", f"an {_kind(statement)} whose rows cannot be found first")
            target = Target(Reach.REFUSED, refusal=refusal)
        elif refusal is None or refusal.id not in _AVOIDABLE or around.hint is not None:
            return target, shape
        if params:
            return target, shape
        return self._found(statement, target, around), shape

    def shape(self, statement: Any, params: Any) -> Shape:
        """Return the shape of a write by criteria."""
        rows = params if isinstance(params, (list, tuple)) else [params]
        return self._read_shape(statement, rows)[0]

    def _read_shape(
        self, statement: Any, rows: Sequence[Any]
    ) -> tuple[Shape, Callable[[Any], Parameters], tuple[str, ...]]:
        # SQLAlchemy writes of every row what the first one names.
        names = tuple(sorted(rows[0] or ()))
        shape, read = self._reading.write(
            statement, names, lambda binds: self._shape(statement, binds, names)
        )
        return shape, read, names

    def _found(self, statement: Any, target: Target, around: Circumstances) -> Target:
        """Return the target of a write whose rows can be found beforehand, else `target`."""
        binding = self._binds.of_table(plain_table(statement.table))
        moves = target.refusal is not None and target.refusal.id == "R203"
        if isinstance(binding, ReferenceTable) or (moves and statement._returning):
            return target
        if isinstance(statement, Update):
            changed = [name for row in given_values(statement) for name in row]
            if _renews_from_elsewhere(binding.table, changed, subject_of(statement)):
                return target
        finding = finding_of(statement, binding, moves=moves)
        if finding is None or self._read(finding.query, None, around)[0].refusal is not None:
            return target
        if isinstance(binding, ShardedTable):
            places = destinations_of(binding.keyspace, frozenset(binding.keyspace.shards))
        else:
            places = (Destination(binding.keyspace.database),)
        tier = Tier.MOVED if moves else Tier.FOUND
        return Target(Reach.SOME, places, (_FOUND,), exact=tier)

    def _shape(self, statement: Any, binds: Sequence[Any], names: Sequence[str]) -> Shape:
        table = plain_table(statement.table)
        if isinstance(statement.table, Join):
            raise UnreadableError("it writes to a join")
        bound = {bind.key for bind in binds}
        fresh = [name for name in names if name not in bound]
        values = list(given_values(statement)) if isinstance(statement, Update) else []
        changed = [*(name for row in values for name in row), *fresh]
        refusal = self._changes_key(statement, table, changed)
        if refusal is not None:
            return Shape(refusal=refusal)
        facts = self._reading.facts(statement, binds, fresh or None)
        binding = self._binds.of_table(table)
        if isinstance(binding, ShardedTable) and not facts.trace.scopes:
            # Their values are the same for all shards, or of each row's own.
            facts.trace.functions -= _repeatable(statement)
        compiled = facts.trace.statement if facts.trace.statement is not None else statement
        mapper = subject_of(statement)
        renewed = _renewed(table, changed, mapper) if isinstance(statement, Update) else ()
        facts.read_dml(compiled, [*expressions_of(values), *renewed, *appendages(statement)])
        fresh_names = names_of(table, mapper)
        shape = replace(shape_of(facts, self._binds), fresh=fresh_names)
        if shape.refusal is not None:
            return shape
        if isinstance(binding, ReferenceTable):
            return self._on_copies(shape, table, facts, statement, changed)
        reason = _needs_one_place(shape, binding, statement, changed)
        if reason is not None:
            return shape.alone_for(Refusal("R305", reason))
        return replace(shape, narrow=None, spread=None)

    def _changes_key(self, statement: Any, table: Table, changed: list[Any]) -> Refusal | None:
        tables = {table, *(plain_table(one.table) for one in changed if hasattr(one, "table"))}
        for one in tables:
            binding = self._binds.of_table(one)
            if not isinstance(binding, ShardedTable):
                continue
            if KeyReader(binding, subject_of(statement)).names_key(changed):
                key = " and ".join(binding.key)
                what = f"cannot route UPDATE on {one.fullname}: it changes the shard key {key}"
                where = binding.keyspace.table_where.get(one.fullname, binding.keyspace.where)
                return Refusal("R203", what, where=where, error=RoutingError)
        return None

    @staticmethod
    def _on_copies(
        shape: Shape, table: Table, facts: Facts, statement: Any, changed: Sequence[Any]
    ) -> Shape:
        if shape.constraints or shape.unsharded or len(shape.references) > 1:
            what = f"the write to reference table {table.fullname} reads other tables"
            return Shape(refusal=Refusal("R308", what))
        reason = unrepeatable(facts.trace, statement)
        if reason is None and isinstance(statement, Update):
            reason = next(_generated(table, changed, subject_of(statement)), None)
        if reason is not None:
            what = f"the write to reference table {table.fullname} uses {reason}"
            return Shape(refusal=Refusal("R308", what))
        return replace(shape, copies=True)

    def _bulk(
        self, statement: Any, rows: Sequence[Mapping[Any, Any]], around: Circumstances
    ) -> Target:
        mapper: Any = subject_of(statement)
        targets = []
        shapes = {tuple(row) for row in rows}
        for table in tables_of(mapper):
            binding = self._binds.of_table(table)
            if isinstance(binding, ShardedTable) and not (
                binding.identified and is_named_by(mapper, table, binding.key)
            ):
                what = f"rows of {table.fullname} name no shard by their primary key"
                return refused("R305", what)
            if any(_renews_from_elsewhere(table, shape, mapper) for shape in shapes):
                return refused("R305", f"rows of {table.fullname} are renewed from other rows")
            if isinstance(binding, ReferenceTable):
                what = f"bulk updates of reference table {table.fullname} are not supported"
                return refused("R308", what)
            if isinstance(binding, ShardedTable):
                targets.append(row_target(binding, rows, mapper, around))
            else:
                targets.append(table_target(binding, around))
        return common_target(targets)


def _fanned(target: Target) -> Target:
    """Return the target of a write that each of several shards applies to its own rows."""
    if target.refusal is not None or target.reach not in (Reach.SOME, Reach.ALL):
        return target
    reasons = (target.reasons[0], "every shard decides about its own rows")
    return replace(target, reasons=reasons, exact=Tier.FANNED, narrowing=None)


def _split(targets: Sequence[Target]) -> Target:
    """Return where the sets of parameters go that have these targets."""
    first = targets[0]
    if any(one.refusal is not None or one.reach is Reach.COPIES for one in targets):
        return common_target(targets)
    parts: dict[str, list[int]] = {}
    for at, target in enumerate(targets):
        for one in target.destinations:
            parts.setdefault(one.database, []).append(at)
    if all(len(part) == len(targets) for part in parts.values()):
        return first
    places = {one.database: one for target in targets for one in target.destinations}
    every = any(target.reach is Reach.ALL for target in targets)
    destinations = [places[name] for name in sorted(places)]
    return split_target(destinations, parts, first.reasons, every=every)


def _repeatable(statement: Any) -> frozenset[str]:
    """Return the functions in a write that may run on several shards."""
    parts: Iterator[Any] = visitors.iterate(statement)
    calls = (part for part in parts if isinstance(part, FunctionElement) and len(part.clauses))
    seeded = {str(getattr(call, "name", "")).lower() for call in calls}
    return CLOCKS | (REPEATED - seeded)


def _needs_one_place(
    shape: Shape, binding: Any, statement: Any, changed: Sequence[Any]
) -> str | None:
    """Return why several shards could not each apply a write to their own rows, or None."""
    table = binding.table
    if not isinstance(binding, ShardedTable) or shape.anchor is None:
        reason = shape.alone.what if shape.alone is not None else "it reads other shards"
        return f"a write to {table.fullname} that no shard can decide by itself: {reason}"
    option = irregular(statement)
    if option is not None:
        return f"a write to {table.fullname} with {option}"
    others = [one for one in changed if hasattr(one, "table")]
    others = [one for one in others if plain_table(one.table) is not table]
    if others:
        return f"a write to {table.fullname} and {plain_table(others[0].table).fullname} at once"
    return None


def is_bulk(statement: Any) -> bool:
    """Return whether the ORM updates row by row, each by its primary key."""
    strategy = statement._execution_options.get("dml_strategy", "auto")
    return (
        isinstance(statement, Update)
        and not statement._where_criteria
        and strategy in ("auto", "bulk")
        and "parententity" in statement.table._annotations
    )


def _renewed(table: Table, changed: Sequence[Any], mapper: Any) -> Iterator[Any]:
    """Yield the expressions that an UPDATE evaluates for what it does not give."""
    return sql_defaults(one.onupdate for one in _left_out(table, changed, mapper))


def _renews_from_elsewhere(table: Table, changed: Sequence[Any], mapper: Any) -> bool:
    return any(looks_elsewhere(one, table) for one in _renewed(table, changed, mapper))


def _left_out(table: Table, changed: Sequence[Any], mapper: Any) -> Iterator[Column[Any]]:
    return (column for column in table.columns if is_left_out(column, changed, mapper))


def _generated(table: Table, changed: Sequence[Any], mapper: Any) -> Iterator[str]:
    for column in _left_out(table, changed, mapper):
        default: Any = column.onupdate
        if default is None and column.server_onupdate is None:
            continue
        if default is None or not default.is_scalar:
            yield f"a generated value for {_name(column)}"


def unique_keys_of(statement: Any, binds: BindTable) -> tuple[UniqueKey, ...]:
    """Return the unique keys of the tables that a DML statement writes to."""
    mapper = subject_of(statement)
    tables = tables_of(mapper) if mapper is not None else (plain_table(statement.table),)
    bindings = map(binds.of_table, tables)
    return tuple(u for one in bindings if isinstance(one, ShardedTable) for u in one.unique)


def touches_unique(statement: Any, unique: UniqueKey, names: Sequence[str]) -> bool:
    """Return whether a write may change a unique key, or what names its row."""
    if not isinstance(statement, Update):
        return True
    mapper = subject_of(statement)
    columns = dict.fromkeys((*unique.columns, *unique.row))
    given = [*(name for row in given_values(statement) for name in row), *names]
    return any(is_given(column, given, mapper) for column in columns)


def _kind(statement: Any) -> str:
    return "UPDATE of a unique key" if isinstance(statement, Update) else "DELETE"


def _name(column: Column[Any]) -> str:
    return f"{column.table.fullname}.{column.name}"
