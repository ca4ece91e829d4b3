"""From the facts about a statement to its shape."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from router.errors import UnboundTableError
from router.route.binds import BindTable, ReferenceTable, ShardedTable, UnshardedTable
from router.route.facts import Comparable, Facts
from router.route.fragments import fragments_of
from router.route.predicates import (
    ANYTHING,
    AllOf,
    AnyOf,
    Compare,
    OneOf,
    Predicate,
    conjunction,
    disjunction,
    substitute,
)
from router.route.regions import ColumnRef, Occurrence
from router.route.shape import Constraint, Shape, lone
from router.route.target import Refusal
from router.route.texts import LOOSE, hazard, is_plain_value
from router.route.transparency import (
    AGGREGATES,
    MERGEABLE_FUNCTIONS,
    ROW_FUNCTIONS,
    whole_set_reason,
)
from router.shardmap.columns import UnsupportedKeyTypeError, key_type
from router.shardmap.keytypes import KeyKind, KeyType

_PARENTHESES = (
    "put parentheses around the text, or say where the statement goes: "
    'bind_arguments={"keyspace": ..., "shard_key": ...} or {"shard": ...}'
)


@dataclass(frozen=True, slots=True)
class _Sharded:
    """A mention of a sharded table."""

    occurrence: Occurrence
    binding: ShardedTable

    @property
    def name(self) -> str:
        return self.occurrence.table.fullname

    def columns(self) -> tuple[ColumnRef, ...]:
        return tuple(ColumnRef(self.occurrence.number, name) for name in self.binding.key)


def comparable(binds: BindTable) -> Comparable:
    """Return the test of whether columns equal in the database are equal as keys, too.

    Numbers, dates and the like are.  Text is only if both columns are shard keys, whose
    collations are known to tell all texts apart: elsewhere 'a' may equal 'A'.
    """

    def check(left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        try:
            types = key_type(left.type), key_type(right.type)
        except UnsupportedKeyTypeError:
            return False
        if types[0].family != types[1].family:
            return False
        return types[0].kind is not KeyKind.TEXT or all(
            _is_key(one, binds) for one in (left, right)
        )

    return check


def _is_key(column: Any, binds: BindTable) -> bool:
    binding = binds.of_table(column.table)
    return isinstance(binding, ShardedTable) and column.name in binding.key


def shape_of(facts: Facts, binds: BindTable) -> Shape:
    """Return the shape of the statement that `facts` was read from."""
    refusal = _unseen(facts)
    if refusal is not None:
        return Shape(refusal=refusal)
    bound = [(one, binds.of_table(one.table)) for one in facts.occurrences]
    sharded = [_Sharded(one, bind) for one, bind in bound if isinstance(bind, ShardedTable)]
    unsharded = [bind.keyspace for _, bind in bound if isinstance(bind, UnshardedTable)]
    references = [bind for _, bind in bound if isinstance(bind, ReferenceTable)]
    joined = facts.root.joined()
    anchors = [one for one in sharded if one.occurrence.region in joined]
    alone = _must_be_alone(facts, sharded, anchors) if sharded else None
    leader = _constraint(anchors[0]) if anchors else None
    anchor = leader if alone is None else None
    spread = leader if alone is not None and _is_mergeable(facts, sharded, anchors) else None
    shape = Shape(
        constraints=_constraints(sharded),
        unsharded=tuple({one.name: one for one in unsharded}.values()),
        references=tuple(dict.fromkeys(references)),
        tables=tuple(dict.fromkeys(one.table.fullname for one in facts.occurrences)),
        alone=alone,
        anchor=anchor,
        narrow=_narrow(leader, facts) if leader in (anchor, spread) and leader else None,
        spread=spread,
        locks=any(scope.select._for_update_arg is not None for scope in facts.trace.scopes),
        tokens=any(not one.binding.identified for one in sharded),
        fragments=tuple(fragments_of(facts.trace)),
        mentions=(len(facts.occurrences), facts.dangling, facts.optional()),
    )
    return replace(shape, lone=lone(shape))


def unfollowed(reason: str, fix: str = "") -> Refusal:
    """Return the refusal of a statement whose tables or rows cannot be followed."""
    what = f"the statement cannot be followed: {reason}"
    return Refusal("R304", what, fix=fix, error=UnboundTableError)


def _unseen(facts: Facts) -> Refusal | None:
    trace = facts.trace
    seen = {one.table for one in facts.occurrences}
    missed = [table.fullname for table in trace.tables if table not in seen]
    if missed:
        return unfollowed(f"its use of table {min(missed)} is unknown")
    if trace.opaque:
        return unfollowed(f"it contains {min(trace.opaque)}")
    for text in (*trace.texts, *trace.operators):
        danger = hazard(text)
        if danger is not None and (trace.writes or danger != LOOSE):
            fix = _PARENTHESES if danger == LOOSE else ""
            return unfollowed(f"its text {text[:60]!r} {danger}", fix)
    return None


# -- one mention of a table ------------------------------------------------------------------


def _constraint(one: _Sharded) -> Constraint:
    binding = one.binding
    predicate = _about(one, binding.key, binding.types)
    others = [(other, _about(one, other.columns, other.types)) for other in binding.secondary]
    told = tuple(pair for pair in others if pair[1] is not ANYTHING)
    return Constraint(binding.keyspace, binding.types, binding.key, predicate, (one.name,), told)


def _about(one: _Sharded, names: tuple[str, ...], types: tuple[KeyType, ...]) -> Predicate:
    """Return what is known of some columns of a mention, which the predicate numbers."""
    region = one.occurrence.region
    classes = region.classes()
    positions: dict[Hashable, int] = {
        member: position
        for position, name in enumerate(names)
        for member in classes.members(ColumnRef(one.occurrence.number, name))
    }
    return _without_foreign_order(substitute(region.predicate(), positions), types)


def _constraints(sharded: Iterable[_Sharded]) -> tuple[Constraint, ...]:
    found: dict[Hashable, Constraint] = {}
    for one in sharded:
        new = _constraint(one)
        key = (new.keyspace.name, new.key, new.predicate, new.secondary)
        found[key] = found[key].with_tables(new.tables) if key in found else new
    return tuple(found.values())


def _without_foreign_order(predicate: Predicate, types: tuple[KeyType, ...]) -> Predicate:
    # Databases order text by collation, sharding functions by code point; UUIDs have an
    # order of their own in each.
    match predicate:
        case Compare(int(position)) if types[position].kind in (KeyKind.TEXT, KeyKind.UUID):
            return ANYTHING
        case AllOf(parts):
            return conjunction(_without_foreign_order(part, types) for part in parts)
        case AnyOf(parts):
            return disjunction(_without_foreign_order(part, types) for part in parts)
        case _:
            return predicate


def _narrow(constraint: Constraint, facts: Facts) -> OneOf | None:
    predicate, width = constraint.predicate, len(constraint.types)
    for part in predicate.parts if isinstance(predicate, AllOf) else (predicate,):
        if isinstance(part, OneOf) and set(range(width)) <= set(part.columns):
            # A parameter that is used twice means something elsewhere, too.
            once = facts.trace.binds[part.value.name] == 1 and not part.value.others
            return part if once else None
    return None


# -- several shards --------------------------------------------------------------------------


def _must_be_alone(
    facts: Facts, sharded: list[_Sharded], anchors: list[_Sharded]
) -> Refusal | None:
    """Return why the statement is exact only on a single shard, or None."""
    if facts.unread is not None:
        return Refusal("R302", facts.unread)
    reason = _whole_set(facts) or _unrepeatable(facts)
    if reason is not None:
        names = ", ".join(dict.fromkeys(one.name for one in sharded))
        return Refusal("R301", f"{reason} over {names} needs all of its rows in one place")
    return _not_colocated(sharded, anchors)


def _is_mergeable(facts: Facts, sharded: list[_Sharded], anchors: list[_Sharded]) -> bool:
    """Return whether only clauses of the outermost SELECT keep it from running on every shard."""
    if facts.compounds or not facts.selects or _whole_set(facts, but=facts.selects[0][0]):
        return False
    known = ROW_FUNCTIONS | AGGREGATES | MERGEABLE_FUNCTIONS
    if facts.trace.functions - known or not all(map(is_plain_value, facts.trace.texts)):
        return False
    return _not_colocated(sharded, anchors) is None


def _whole_set(facts: Facts, but: object = None) -> str | None:
    if facts.compounds:
        return "a set operation"
    for select, region in facts.selects:
        if region in facts.root.certain() and select is not but:
            reason = whole_set_reason(select)
            if reason is not None:
                return reason
            if region is facts.root and select._order_by_clauses:
                return "ORDER BY"
    return None


def _unrepeatable(facts: Facts) -> str | None:
    unknown = facts.trace.functions - ROW_FUNCTIONS - AGGREGATES
    if unknown:
        return f"the function {min(unknown)}()"
    texts = [text for text in facts.trace.texts if not is_plain_value(text)]
    return f"the text {texts[0][:60]!r}" if texts else None


def _not_colocated(sharded: list[_Sharded], anchors: list[_Sharded]) -> Refusal | None:
    if not anchors:
        names = ", ".join(sorted({one.name for one in sharded}))
        return Refusal("R302", f"every row depends on all shards of {names}")
    first = anchors[0]
    for one in sharded:
        leaders = [first] if one in anchors else anchors
        if one is not first and not any(_follows(one, leader) for leader in leaders):
            pair = f"{first.name} and {one.name}"
            if first.name == one.name:
                pair = f"two mentions of {one.name}"
            what = f"{pair} are not joined on equal shard keys"
            if one.binding.keyspace is not first.binding.keyspace:
                what = f"{first.name} and {one.name} are not split in the same way"
            return Refusal("R302", what)
    return None


def _follows(one: _Sharded, leader: _Sharded) -> bool:
    if one.binding.keyspace is not leader.binding.keyspace:
        return False
    classes = one.occurrence.region.classes()
    pairs = zip(one.columns(), leader.columns(), strict=True)
    return all(classes.find(own) == classes.find(other) for own, other in pairs)
