"""What INSERT, UPDATE and DELETE have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router.hooks.trace import Trace
from router.route.binds import Binding, ReferenceTable, ShardedTable, UnshardedTable
from router.route.circumstances import Circumstances, outside_partition
from router.route.rows import KeyReader, shard_of_row
from router.route.target import Destination, Reach, Target, refused
from router.route.texts import is_plain_value
from router.route.transparency import AGGREGATES, ROW_FUNCTIONS


def table_target(binding: UnshardedTable | ReferenceTable, around: Circumstances) -> Target:
    """Return the target of a write to a table that is not sharded."""
    if around.pinned:
        what = f"this would write {binding.table.fullname}, which is not part of it"
        raise outside_partition(what, around.pinned)
    if isinstance(binding, ReferenceTable):
        copies = tuple(Destination(name) for name in binding.databases)
        return Target(Reach.COPIES, copies, ("every copy of a reference table is written",))
    destination = Destination(binding.keyspace.database)
    return Target(Reach.ONE, (destination,), ("the table lives in one database",))


def row_target(
    binding: ShardedTable, rows: Sequence[Any], mapper: Any, around: Circumstances
) -> Target:
    """Return the one shard that all `rows` belong to, or a refusal."""
    reader = KeyReader(binding, mapper)
    keyspace = binding.keyspace
    if around.pinned and keyspace.name not in around.pinned:
        raise outside_partition(f"this would reach keyspace {keyspace.name}", around.pinned)
    shards = {shard_of_row(reader.key(row), binding, around.locate) for row in rows}
    around.check(keyspace, frozenset(shards))
    if len(shards) > 1:
        names = ", ".join(sorted(keyspace.shard_id(shard) for shard in shards))
        return refused("R305", f"the rows of {binding.table.fullname} belong to {names}")
    shard = shards.pop()
    destination = Destination(keyspace.shards[shard], keyspace.shard_id(shard))
    return Target(Reach.ONE, (destination,), (f"the rows' {' and '.join(binding.key)}",))


def binding_target(
    binding: Binding, rows: Sequence[Any], mapper: Any, around: Circumstances
) -> Target:
    """Return the target of inserting `rows` into one table."""
    if isinstance(binding, ShardedTable):
        return row_target(binding, rows, mapper, around)
    return table_target(binding, around)


def common_target(targets: Sequence[Target]) -> Target:
    """Return the target that all parts of a write share, or a refusal."""
    first = targets[0]
    for target in targets:
        if target.reach is Reach.REFUSED:
            return target
        if _databases(target) != _databases(first):
            places = ", ".join(str(one) for t in (first, target) for one in t.destinations)
            return refused("R305", f"parts of the write belong to different places: {places}")
    return first


def _databases(target: Target) -> set[str]:
    return {one.database for one in target.destinations}


def unrepeatable(trace: Trace, statement: Any) -> str | None:
    """Return what in a write could come out differently on each copy of a table, or None."""
    unknown = trace.functions - ROW_FUNCTIONS - AGGREGATES
    if unknown:
        return f"the function {min(unknown)}()"
    texts = [text for text in trace.texts if not is_plain_value(text)]
    if texts:
        return f"the text {texts[0][:60]!r}"
    extended = getattr(statement, "_post_criteria_clause", None) is not None
    if extended or any(value for value in statement.dialect_kwargs.values()):
        return "an option of one dialect"
    return None
