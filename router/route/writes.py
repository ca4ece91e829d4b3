"""What INSERT, UPDATE and DELETE have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router.hooks.trace import Trace
from router.route.binds import Binding, ReferenceTable, ShardedTable, UnshardedTable
from router.route.circumstances import Circumstances
from router.route.outside import outside_partition
from router.route.rows import homes_of_rows
from router.route.several import destinations_of
from router.route.target import Destination, Reach, Split, Target, Tier, refused
from router.route.texts import is_plain_value
from router.route.transparency import AGGREGATES, ROW_FUNCTIONS

CLOCKS = frozenset(
    "current_date current_time current_timestamp curdate curtime localtime localtimestamp now "
    "statement_timestamp transaction_timestamp utc_date utc_time utc_timestamp".split()
)
"""Functions that have one value in a statement; several databases are given it."""

REPEATED = frozenset(
    "clock_timestamp gen_random_uuid rand random randomblob uuid uuid_generate_v4".split()
)
"""Functions that have a value of its own for every row, wherever that is."""


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
    """Return the shards that `rows` belong to, and which of them belong to each."""
    keyspace = binding.keyspace
    if around.only is not None:
        around.only.admit_rows(binding, rows, mapper)
    if around.pinned and keyspace.name not in around.pinned:
        raise outside_partition(f"this would reach keyspace {keyspace.name}", around.pinned)
    homes = homes_of_rows(binding, rows, mapper, around.locate)
    shards = around.check(keyspace, frozenset(homes))
    reasons = (f"the rows' {' and '.join(binding.key)}",)
    destinations = destinations_of(keyspace, shards)
    if len(shards) == 1:
        return Target(Reach.ONE, destinations, reasons)
    parts: dict[str, list[int]] = {keyspace.shards[shard]: [] for shard in shards}
    for at, shard in enumerate(homes):
        parts[keyspace.shards[shard]].append(at)
    return split_target(destinations, parts, reasons, every=len(shards) == len(keyspace.shards))


def split_target(
    destinations: Sequence[Destination],
    parts: Mapping[str, Sequence[int]],
    reasons: tuple[str, ...],
    *,
    every: bool,
) -> Target:
    """Return the target of rows of which each goes to its own place."""
    reach = Reach.ALL if every else Reach.SOME
    return Target(reach, tuple(destinations), reasons, exact=Tier.SPLIT, split=Split(parts))


def binding_target(
    binding: Binding, rows: Sequence[Any], mapper: Any, around: Circumstances
) -> Target:
    """Return the target of inserting `rows` into one table."""
    if isinstance(binding, ShardedTable):
        return row_target(binding, rows, mapper, around)
    return table_target(binding, around)


def common_target(targets: Sequence[Target]) -> Target:
    """Return the target that all parts of every row share, or a refusal."""
    first = targets[0]
    for target in targets:
        if target.reach is Reach.REFUSED:
            return target
        if _databases(target) != _databases(first) or target.split != first.split:
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


def irregular(statement: Any) -> str | None:
    """Return the clause of `statement` that picks or replaces rows in a way of one dialect."""
    prefixes = [str(text) for text, *_ in getattr(statement, "_prefixes", ())]
    if prefixes:
        return f"the prefix {prefixes[0][:60]!r}"
    extended = getattr(statement, "_post_criteria_clause", None) is not None
    if extended or any(value for value in statement.dialect_kwargs.values()):
        return "an option of one dialect, such as LIMIT"
    return None
