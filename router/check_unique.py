"""What can be said of uniqueness over all shards: which constraints no shard can enforce."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, UniqueConstraint
from sqlalchemy import exc as sa_exc

from router.errors import Problem, RouterError
from router.route.binds import ShardedTable
from router.route.secondary import UniqueKey
from router.session.wiring import Wiring


def unique_findings(wiring: Wiring) -> Iterator[Problem]:
    """Yield constraints that hold on each shard only, and lookup tables that are not complete."""
    for metadata in dict.fromkeys(wiring.metadata.values()):
        for table in metadata.sorted_tables:
            binding = wiring.binds.of_table(table)
            if isinstance(binding, ShardedTable):
                yield from _unenforced(binding)
                for unique in binding.unique:
                    yield from _incomplete(unique, wiring)


def _unenforced(binding: ShardedTable) -> Iterator[Problem]:
    table, where = binding.table, binding.keyspace.table_where.get(binding.table.fullname, "")
    kept = [set(one.entry.columns) for one in binding.unique]
    for columns in _unique_columns(table):
        if set(binding.key) <= columns or any(one <= columns for one in kept):
            continue
        names = ", ".join(sorted(columns))
        what = f"{table.fullname}: that {names} is unique is enforced by each shard, for itself"
        yield Problem("R709", what, where)


def _unique_columns(table: Table) -> Iterator[set[str]]:
    for constraint in sorted(table.constraints, key=lambda one: str(one.name)):
        if isinstance(constraint, UniqueConstraint):
            yield {column.name for column in constraint.columns}
    for index in sorted(table.indexes, key=lambda one: str(one.name)):
        if index.unique:
            yield {column.name for column in index.columns}


def _incomplete(unique: UniqueKey, wiring: Wiring) -> Iterator[Problem]:
    entry = unique.entry
    try:
        if not wiring.lookups.is_complete(unique):
            what = f"the lookup table of {entry.name} is not complete, and not used to find rows"
            yield Problem("R710", what, entry.where)
    except RouterError as error:
        yield Problem(error.id, error.what, error.where, error.fix)
    except sa_exc.SQLAlchemyError:
        # That the database cannot be reached is a finding of its own.
        return
