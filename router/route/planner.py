"""Routes statements: the shape once, then a look-up and the values of each execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CompoundSelect, Delete, Insert, Select, Update
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.functions import FunctionElement

from router.errors import RoutingError, UnboundTableError
from router.hooks.mappers import subject_of
from router.hooks.statements import (
    cache_key,
    given_values,
    new_cache,
    plain_table,
    resolved,
    selected,
)
from router.hooks.trace import trace
from router.route.aim import Circumstances, aim, outside_partition
from router.route.binds import BindTable, ReferenceTable, ShardedTable, UnshardedTable
from router.route.facts import Facts, UnreadableError
from router.route.predicates import Read, Value
from router.route.rows import KeyReader, expressions_of, rows_of, shard_of_row
from router.route.shape import Shape, shape_of
from router.route.target import Destination, Reach, Refusal, Target
from router.shardmap.model import UnshardedKeyspace

CACHED_SHAPES = 2000

_ALONE = Refusal("R305", "the write would reach several shards")


class Planner:
    """Finds the target of any statement; pure but for `Circumstances.locate`.

    Parameters
    ----------
    binds:
        Resolves tables to keyspaces.
    dialects:
        The dialects of the map's databases, with which statements are compiled to be read.
    """

    def __init__(self, binds: BindTable, dialects: Sequence[Dialect]) -> None:
        self.binds = binds
        self._dialects = tuple(dialects)
        self._shapes = new_cache(CACHED_SHAPES)

    def target(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        """Return where `statement` goes with `params`, and its shape."""
        statement = resolved(statement)
        if isinstance(statement, Insert):
            return self._insert(statement, params, around)
        if isinstance(statement, (Update, Delete)):
            return self._update(statement, params, around)
        shape, read = self.read(statement, params)
        return aim(shape, read, self.binds.shard_map, around), shape

    def read(self, statement: Any, params: Any) -> tuple[Shape, Read]:
        """Return the shape of a query, from the cache if it was seen, and its parameters."""
        key, binds = cache_key(statement)
        shape = self._shapes.get(key) if key is not None else None
        if shape is None:
            shape = self._shape(statement, binds)
            if key is not None:
                self._shapes[key] = shape
        return shape, _reader(binds, params)

    def _shape(self, statement: Any, binds: Sequence[BindParameter[Any]]) -> Shape:
        try:
            facts = self._facts(statement, binds)
        except (UnreadableError, sa_exc.CompileError) as error:
            return Shape(refusal=_unreadable(error))
        shape = shape_of(facts, self.binds)
        if facts.occurrences or shape.refusal is not None:
            return shape
        return self._tableless()

    def _tableless(self) -> Shape:
        keyspace = self.binds.default()
        if isinstance(keyspace, UnshardedKeyspace):
            return Shape(unsharded=(keyspace,))
        what = f"the statement names no table, and keyspace {keyspace.name} is sharded"
        return Shape(refusal=Refusal("R202", what, error=RoutingError))

    def _facts(self, statement: Any, binds: Sequence[BindParameter[Any]]) -> Facts:
        if isinstance(statement, FromStatement):
            statement = statement.element
        if not isinstance(statement, (Select, CompoundSelect, FunctionElement)):
            raise UnreadableError(f"it is a {type(statement).__name__}")
        traced = trace(statement, self._dialects)
        facts = Facts(traced, {bind.key: at for at, bind in enumerate(binds)})
        if not isinstance(statement, FunctionElement):
            facts.read_query(statement)
        return facts

    # -- UPDATE and DELETE --------------------------------------------------------------------

    def _update(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        many = isinstance(params, (list, tuple))
        if many and isinstance(statement, Update) and not statement._where_criteria:
            return self._bulk_update(statement, params, around)
        rows = params if many else [params]
        names = sorted({name for row in rows if row for name in row})
        shape, binds = self._write_shape(statement, names)
        targets = [aim(shape, _reader(binds, row), self.binds.shard_map, around) for row in rows]
        return _one_target(targets), shape

    def _write_shape(
        self, statement: Any, names: list[str]
    ) -> tuple[Shape, Sequence[BindParameter[Any]]]:
        key, binds = cache_key(statement)
        key = (key, tuple(names)) if key is not None else None
        shape = self._shapes.get(key) if key is not None else None
        if shape is None:
            shape = self._new_write_shape(statement, binds, names)
            if key is not None:
                self._shapes[key] = shape
        return shape, binds

    def _new_write_shape(
        self, statement: Any, binds: Sequence[BindParameter[Any]], names: list[str]
    ) -> Shape:
        table = plain_table(statement.table)
        bound = {bind.key for bind in binds}
        values = list(given_values(statement)) if isinstance(statement, Update) else []
        changed = [name for row in values for name in row]
        changed += [name for name in names if name not in bound]
        refusal = self._changes_key(statement, table, changed)
        if refusal is not None:
            return Shape(refusal=refusal)
        try:
            columns = [name for name in names if name not in bound] or None
            traced = trace(statement, self._dialects, columns)
            facts = Facts(traced, {bind.key: at for at, bind in enumerate(binds)})
            compiled = traced.statement if traced.statement is not None else statement
            facts.read_dml(table, compiled._where_criteria, expressions_of(values))
        except (UnreadableError, sa_exc.CompileError) as error:
            return Shape(refusal=_unreadable(error))
        return self._as_write(shape_of(facts, self.binds), table)

    def _changes_key(self, statement: Any, table: Any, changed: list[Any]) -> Refusal | None:
        binding = self.binds.of_table(table)
        if not isinstance(binding, ShardedTable):
            return None
        if not KeyReader(binding, subject_of(statement)).names_key(changed):
            return None
        key = " and ".join(binding.key)
        what = f"cannot route UPDATE on {table.fullname}: it changes the shard key {key}"
        where = binding.keyspace.table_where.get(table.fullname, binding.keyspace.where)
        return Refusal("R203", what, where=where, error=RoutingError)

    def _as_write(self, shape: Shape, table: Any) -> Shape:
        binding = self.binds.of_table(table)
        if isinstance(binding, ReferenceTable):
            if shape.constraints or shape.unsharded or len(shape.references) > 1:
                what = f"the write to reference table {table.fullname} reads other tables"
                return Shape(refusal=Refusal("R308", what))
            return Shape(references=shape.references, refusal=shape.refusal, copies=True)
        what = f"the write to {table.fullname} would reach several shards"
        return shape.alone_for(Refusal("R305", what))

    def _bulk_update(
        self, statement: Any, rows: Sequence[Mapping[Any, Any]], around: Circumstances
    ) -> tuple[Target, Shape]:
        table = plain_table(statement.table)
        binding = self.binds.of_table(table)
        if not isinstance(binding, ShardedTable):
            return self._one_table(binding, around), Shape()
        if not binding.identified:
            what = f"rows of {table.fullname} name no shard by their primary key"
            return Target(Reach.REFUSED, refusal=Refusal("R305", what)), Shape()
        return self._row_target(binding, rows, statement, around), Shape()

    # -- INSERT -------------------------------------------------------------------------------

    def _insert(
        self, statement: Insert, params: Any, around: Circumstances
    ) -> tuple[Target, Shape]:
        binding = self.binds.of_table(plain_table(statement.table))
        chosen = selected(statement)
        if chosen is not None:
            return self._insert_select(statement, binding, chosen, params, around)
        rows = rows_of(statement, params)
        expressions = list(expressions_of(rows))
        if expressions and not isinstance(binding, UnshardedTable):
            refusal = self._reads_tables(statement, binding, expressions)
            if refusal is not None:
                return Target(Reach.REFUSED, refusal=refusal), Shape()
        if isinstance(binding, ShardedTable):
            target = self._row_target(binding, rows, statement, around)
        else:
            target = self._one_table(binding, around)
        return _agreeing(target, around.hint, binding), Shape()

    def _reads_tables(self, statement: Any, binding: Any, expressions: list[Any]) -> Refusal | None:
        table = binding.table.fullname
        if isinstance(binding, ReferenceTable):
            return Refusal("R308", f"a value for reference table {table} is an SQL expression")
        facts = Facts(trace(statement, self._dialects), {})
        try:
            facts.read_values(expressions)
        except UnreadableError as error:
            return _unreadable(error)
        if facts.occurrences:
            return Refusal("R305", f"a value for {table} is read from other tables")
        return None

    def _insert_select(
        self, statement: Insert, binding: Any, chosen: Any, params: Any, around: Circumstances
    ) -> tuple[Target, Shape]:
        select, _ = chosen
        table = binding.table.fullname
        if not isinstance(binding, UnshardedTable):
            what = f"INSERT ... SELECT into {table}: the rows' shards are not known beforehand"
            refusal = Refusal("R305", what, fix="read the rows first, then insert them")
            return Target(Reach.REFUSED, refusal=refusal), Shape()
        target, shape = self.target(select, params, around)
        own = Target(Reach.ONE, (Destination(binding.keyspace.database),))
        return _one_target([own, target]), shape

    def _one_table(self, binding: Any, around: Circumstances) -> Target:
        if around.pinned:
            what = f"this would write {binding.table.fullname}, which is not part of it"
            raise outside_partition(what, around.pinned)
        if isinstance(binding, ReferenceTable):
            copies = tuple(Destination(name) for name in binding.databases)
            return Target(Reach.COPIES, copies, ("every copy of a reference table is written",))
        destination = Destination(binding.keyspace.database)
        return Target(Reach.ONE, (destination,), ("the table lives in one database",))

    def _row_target(
        self, binding: ShardedTable, rows: Any, statement: Any, around: Circumstances
    ) -> Target:
        reader = KeyReader(binding, subject_of(statement))
        keyspace = binding.keyspace
        if around.pinned and keyspace.name not in around.pinned:
            raise outside_partition(f"this would reach keyspace {keyspace.name}", around.pinned)
        shards = {shard_of_row(reader.key(row), binding, around.locate) for row in rows}
        around.check(keyspace, frozenset(shards))
        if len(shards) > 1:
            names = ", ".join(sorted(keyspace.shard_id(shard) for shard in shards))
            what = f"the rows of {binding.table.fullname} belong to {names}"
            return Target(Reach.REFUSED, refusal=Refusal("R305", what))
        shard = shards.pop()
        destination = Destination(keyspace.shards[shard], keyspace.shard_id(shard))
        return Target(Reach.ONE, (destination,), (f"the rows' {' and '.join(binding.key)}",))


def _unreadable(error: Exception) -> Refusal:
    what = f"the statement's tables cannot be seen: {error}"
    return Refusal("R304", what, error=UnboundTableError)


def _reader(binds: Sequence[BindParameter[Any]], params: Any) -> Read:
    if not params or not isinstance(params, Mapping):
        return lambda value: binds[value.index].effective_value

    def read(value: Value) -> Any:
        bind = binds[value.index]
        if bind.key in params:
            return params[bind.key]
        return bind.effective_value

    return read


def _agreeing(target: Target, hint: Destination | None, binding: Any) -> Target:
    if hint is None or target.reach is Reach.REFUSED or target.destinations == (hint,):
        return target
    homes = ", ".join(str(home) for home in target.destinations)
    what = f"the rows of {binding.table.fullname} belong to {homes}, not to {hint}"
    return Target(Reach.REFUSED, refusal=Refusal("R305", what))


def _one_target(targets: Sequence[Target]) -> Target:
    first = targets[0]
    for target in targets:
        if target.reach is Reach.REFUSED:
            return target
        if {one.database for one in target.destinations} != {
            one.database for one in first.destinations
        }:
            return Target(Reach.REFUSED, refusal=_ALONE)
    return first
