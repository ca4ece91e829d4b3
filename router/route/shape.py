"""What is found out once about a statement, for all its executions.

The shape of a statement says which tables it mentions, what its parameters say of their
shard keys, and whether it may run on several shards; `router.route.aim` adds the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.sql.elements import BindParameter

from router.route.binds import ReferenceTable
from router.route.predicates import ANYTHING, Equals, OneOf, Predicate, Value
from router.route.secondary import Secondary
from router.route.target import Destination, Reach, Refusal, Target
from router.shardmap.functions.protocol import KeyValue
from router.shardmap.keytypes import KeyType
from router.shardmap.model import ShardedKeyspace, UnshardedKeyspace


@dataclass(frozen=True, slots=True)
class Constraint:
    """What is known of the shard keys of one or more mentions of sharded tables."""

    keyspace: ShardedKeyspace
    types: tuple[KeyType, ...]
    key: tuple[str, ...]
    predicate: Predicate
    tables: tuple[str, ...]
    secondary: tuple[tuple[Secondary, Predicate], ...] = ()

    def with_tables(self, tables: tuple[str, ...]) -> Constraint:
        """Return the same constraint, holding for further tables."""
        return replace(self, tables=tuple(dict.fromkeys((*self.tables, *tables))))

    @property
    def reason(self) -> str:
        """What sends a statement to the shard of one key."""
        tables, key = ", ".join(self.tables), " and ".join(self.key)
        if self.predicate is ANYTHING and self.secondary:
            key = self.secondary[0][0].name
        return f"{tables}: {key} names one shard of {self.keyspace.name}"


LASTING = (int, str)
"""Only of these types are equal values equal keys: True is 1, and 1.0, too."""


@dataclass(frozen=True, slots=True)
class Lone:
    """The most frequent shape: one column equals one value, and nothing else matters.

    `targets` maps each shard to the finished target, `known` values that were asked for
    before, for functions that give a key the same shard for ever.
    """

    keyspace: ShardedKeyspace
    value: Value
    normalise: Callable[[object], KeyValue]
    targets: Mapping[str, Target]
    known: dict[object, Target] = field(default_factory=dict, compare=False)

    def recalled(self, binds: Sequence[BindParameter[Any]], given: Any) -> Target | None:
        """Return the target of a statement with these parameters, if it is known already.

        `given` are the values that are given to the execution.
        """
        bind = binds[self.value.index]
        if given:
            # Values by other names are for `aim` to look at.
            own = len(given) == len(binds) == 1 and given.__class__ is dict
            value = given.get(bind.key) if own else None
        elif bind.callable is not None:
            return None
        else:
            value = bind.value
        return self.known.get(value) if value.__class__ in LASTING else None


@dataclass(frozen=True, slots=True)
class Shape:
    """The outcome of reading a statement.

    `anchor` is the constraint that picks the shards when there are several; `alone` says
    why there must be only one; `narrow` is the list of keys that each shard gets a part of.
    `spread` is the constraint that picks the shards where nothing but clauses of the outermost
    SELECT, such as ORDER BY, stand in the way of several: a merge can make up for them.
    `fragments` are parts that SQLAlchemy passes on unread, `mentions` counts those of
    tables, columns whose table is not in sight, and tables that an outer join may miss.
    `is_harmless` says that nothing in a query can have an effect, or an answer that depends on
    which copy of the data is asked; `writes` that it is seen to write, in a CTE.
    `fresh` are the names by which an execution may give values to the columns of a write.
    """

    constraints: tuple[Constraint, ...] = ()
    unsharded: tuple[UnshardedKeyspace, ...] = ()
    references: tuple[ReferenceTable, ...] = ()
    tables: tuple[str, ...] = ()
    refusal: Refusal | None = None
    alone: Refusal | None = None
    anchor: Constraint | None = None
    narrow: OneOf | None = None
    spread: Constraint | None = None
    tokens: bool = False
    copies: bool = False
    locks: bool = False
    lone: Lone | None = None
    fragments: tuple[str, ...] = ()
    mentions: tuple[int, ...] = ()
    is_harmless: bool = False
    writes: bool = False
    fresh: frozenset[str] = frozenset()

    @property
    def names(self) -> str:
        """The tables of the statement, for messages."""
        return " and ".join(self.tables)

    def common_copies(self) -> list[str] | None:
        """Return the databases with copies of all reference tables; None if none is used."""
        if not self.references:
            return None
        first, *others = (reference.databases for reference in self.references)
        return [name for name in first if all(name in other for other in others)]

    def alone_for(self, refusal: Refusal) -> Shape:
        """Return this shape for a single shard only, refused with `refusal` elsewhere."""
        alone = refusal if self.constraints else None
        return replace(self, alone=alone, anchor=None, narrow=None, spread=None)


def lone(shape: Shape) -> Lone | None:
    """Return the finished targets of `shape`, if one equality decides them."""
    if len(shape.constraints) != 1 or shape.unsharded:
        return None
    only = shape.constraints[0]
    if only.secondary:
        return None
    keyspace, predicate = only.keyspace, only.predicate
    if not isinstance(predicate, Equals) or predicate.value.others or len(only.types) != 1:
        return None
    if not all(set(keyspace.shards.values()) <= set(one.databases) for one in shape.references):
        return None
    targets = {
        shard: Target(Reach.ONE, (Destination(name, keyspace.shard_id(shard)),), (only.reason,))
        for shard, name in keyspace.shards.items()
    }
    return Lone(keyspace, predicate.value, only.types[0].normalise, targets)
