"""What is found out once about a statement, for all its executions.

The shape of a statement says which tables it mentions, what its parameters say of their
shard keys, and whether it may run on several shards; `router.route.aim` adds the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace

from router.route.binds import BindTable, ReferenceTable, ShardedTable, UnshardedTable
from router.route.facts import Facts
from router.route.predicates import (
    ANYTHING,
    AllOf,
    AnyOf,
    Compare,
    Equals,
    OneOf,
    Predicate,
    Value,
    conjunction,
    disjunction,
    substitute,
)
from router.route.regions import ColumnRef, Occurrence
from router.route.target import Destination, Reach, Refusal, Target
from router.route.transparency import AGGREGATES, ROW_FUNCTIONS, whole_set_reason
from router.shardmap.functions.protocol import KeyValue
from router.shardmap.keytypes import KeyKind, KeyType
from router.shardmap.model import ShardedKeyspace, UnshardedKeyspace

_NAMES_TABLES = re.compile(r"\b(select|from|table|with|call|join|into)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What is known of the shard keys of one or more mentions of sharded tables."""

    keyspace: ShardedKeyspace
    types: tuple[KeyType, ...]
    key: tuple[str, ...]
    predicate: Predicate
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lone:
    """The most frequent shape: one column equals one value, and nothing else matters.

    `targets` maps each shard to the finished target.
    """

    keyspace: ShardedKeyspace
    value: Value
    normalise: Callable[[object], KeyValue]
    targets: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class Shape:
    """The outcome of reading a statement.

    `anchor` is the constraint that picks the shards when there are several; `alone` says
    why there must be only one; `narrow` is the list of keys that each shard gets a part of.
    """

    constraints: tuple[Constraint, ...] = ()
    unsharded: tuple[UnshardedKeyspace, ...] = ()
    references: tuple[ReferenceTable, ...] = ()
    refusal: Refusal | None = None
    alone: Refusal | None = None
    anchor: Constraint | None = None
    narrow: OneOf | None = None
    tokens: bool = False
    copies: bool = False
    lone: Lone | None = None

    def alone_for(self, refusal: Refusal) -> Shape:
        """Return this shape for a single shard only, refused with `refusal` elsewhere."""
        alone = refusal if self.constraints else None
        return replace(self, alone=alone, anchor=None, narrow=None)


@dataclass(frozen=True, slots=True)
class _Sharded:
    """A mention of a sharded table."""

    occurrence: Occurrence
    binding: ShardedTable

    def columns(self) -> tuple[ColumnRef, ...]:
        return tuple(ColumnRef(self.occurrence.number, name) for name in self.binding.key)


def shape_of(facts: Facts, binds: BindTable) -> Shape:
    """Return the shape of the statement that `facts` was read from."""
    refusal = _unseen(facts)
    if refusal is not None:
        return Shape(refusal=refusal)
    bound = [(one, binds.of_table(one.table)) for one in facts.occurrences]
    sharded = [_Sharded(one, bind) for one, bind in bound if isinstance(bind, ShardedTable)]
    unsharded = {
        bind.keyspace.name: bind.keyspace for _, bind in bound if isinstance(bind, UnshardedTable)
    }
    references = {bind: None for _, bind in bound if isinstance(bind, ReferenceTable)}
    certain = list(facts.root.certain())
    anchors = [one for one in sharded if one.occurrence.region in certain]
    alone = _must_be_alone(facts, sharded, anchors) if sharded else None
    anchor = _constraint(anchors[0]) if anchors and alone is None else None
    shape = Shape(
        constraints=_constraints(sharded),
        unsharded=tuple(unsharded.values()),
        references=tuple(references),
        alone=alone,
        anchor=anchor,
        narrow=_narrow(anchor, facts) if anchor is not None else None,
        tokens=any(not one.binding.identified for one in sharded),
    )
    return replace(shape, lone=_lone(shape))


def _lone(shape: Shape) -> Lone | None:
    if len(shape.constraints) != 1 or shape.unsharded:
        return None
    only = shape.constraints[0]
    keyspace = only.keyspace
    if not isinstance(only.predicate, Equals) or len(only.types) != 1:
        return None
    if not all(set(keyspace.shards.values()) <= set(one.databases) for one in shape.references):
        return None
    reason = f"{', '.join(only.tables)}: {only.key[0]} names one shard of {keyspace.name}"
    targets = {
        shard: Target(Reach.ONE, (Destination(name, keyspace.shard_id(shard)),), (reason,))
        for shard, name in keyspace.shards.items()
    }
    return Lone(keyspace, only.predicate.value, only.types[0].normalise, targets)


def _unseen(facts: Facts) -> Refusal | None:
    trace = facts.trace
    seen = {one.table for one in facts.occurrences}
    missed = [table.fullname for table in trace.tables if table not in seen]
    if missed:
        return Refusal("R304", f"how the statement uses table {missed[0]} cannot be followed")
    if trace.opaque:
        return Refusal("R304", f"the statement contains {next(iter(trace.opaque))}")
    for text in trace.texts:
        if _NAMES_TABLES.search(text):
            return Refusal("R304", f"the statement contains the text {text[:60]!r}")
    return None


# -- one mention of a table ------------------------------------------------------------------


def _constraint(one: _Sharded) -> Constraint:
    region = one.occurrence.region
    classes = region.classes()
    positions: dict[Hashable, int] = {
        member: position
        for position, column in enumerate(one.columns())
        for member in classes.members(column)
    }
    predicate = _without_text_order(substitute(region.predicate(), positions), one.binding.types)
    return Constraint(
        one.binding.keyspace,
        one.binding.types,
        one.binding.key,
        predicate,
        (one.occurrence.table.fullname,),
    )


def _constraints(sharded: Iterable[_Sharded]) -> tuple[Constraint, ...]:
    found: list[Constraint] = []
    for one in sharded:
        constraint = _constraint(one)
        for index, other in enumerate(found):
            same = (other.keyspace is constraint.keyspace, other.predicate == constraint.predicate)
            if all(same):
                tables = tuple(dict.fromkeys((*other.tables, *constraint.tables)))
                found[index] = Constraint(
                    other.keyspace, other.types, other.key, other.predicate, tables
                )
                break
        else:
            found.append(constraint)
    return tuple(found)


def _without_text_order(predicate: Predicate, types: tuple[KeyType, ...]) -> Predicate:
    # Databases order text by collation, sharding functions by code point.
    match predicate:
        case Compare(int(position)) if types[position].kind is KeyKind.TEXT:
            return ANYTHING
        case AllOf(parts):
            return conjunction(_without_text_order(part, types) for part in parts)
        case AnyOf(parts):
            return disjunction(_without_text_order(part, types) for part in parts)
        case _:
            return predicate


def _narrow(constraint: Constraint, facts: Facts) -> OneOf | None:
    predicate, width = constraint.predicate, len(constraint.types)
    for part in predicate.parts if isinstance(predicate, AllOf) else (predicate,):
        if isinstance(part, OneOf) and sorted(part.columns, key=repr) == list(range(width)):
            # A parameter that is used twice means something elsewhere, too.
            return part if facts.trace.binds[part.value.name] == 1 else None
    return None


# -- several shards --------------------------------------------------------------------------


def _must_be_alone(
    facts: Facts, sharded: list[_Sharded], anchors: list[_Sharded]
) -> Refusal | None:
    """Return why the statement is exact only on a single shard, or None."""
    if facts.compounds:
        return Refusal("R301", "a set operation over several shards")
    for select, region in facts.selects:
        if region in facts.root.certain():
            reason = whole_set_reason(select)
            if reason is not None:
                return Refusal("R301", f"{reason} over several shards")
            if region is facts.root and select._order_by_clauses:
                return Refusal("R301", "ORDER BY over several shards")
    unknown = facts.trace.functions - ROW_FUNCTIONS - AGGREGATES
    if unknown:
        return Refusal("R301", f"the function {min(unknown)}() over several shards")
    if facts.trace.texts:
        return Refusal("R301", f"the text {facts.trace.texts[0][:60]!r} over several shards")
    return _not_colocated(sharded, anchors)


def _not_colocated(sharded: list[_Sharded], anchors: list[_Sharded]) -> Refusal | None:
    if not anchors:
        names = ", ".join(sorted({one.occurrence.table.fullname for one in sharded}))
        return Refusal("R302", f"every row depends on all shards of {names}")
    first = anchors[0]
    for one in sharded:
        leaders = [first] if one in anchors else anchors
        if one is not first and not any(_follows(one, leader) for leader in leaders):
            tables = f"{first.occurrence.table.fullname} and {one.occurrence.table.fullname}"
            return Refusal("R302", f"{tables} are not joined on equal shard keys")
    return None


def _follows(one: _Sharded, leader: _Sharded) -> bool:
    if one.binding.keyspace is not leader.binding.keyspace:
        return False
    classes = one.occurrence.region.classes()
    pairs = zip(one.columns(), leader.columns(), strict=True)
    return all(classes.find(own) == classes.find(other) for own, other in pairs)
