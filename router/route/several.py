"""Statements that reach several shards: the plain ones fan out, the others are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from router.route.circumstances import Circumstances
from router.route.keys import locate_key, names_keys, normalise, shards_of
from router.route.predicates import Read, members, scalar
from router.route.shape import Constraint, Shape
from router.route.target import Destination, Narrowing, Reach, Refusal, Target, refused
from router.shardmap.model import Scatter, ShardedKeyspace, ShardMap


def aim_at_several(shape: Shape, read: Read, shard_map: ShardMap, around: Circumstances) -> Target:
    """Return the target of a statement that one database alone cannot answer."""
    keyspaces = {one.keyspace.name for one in shape.constraints}
    if shape.unsharded or (len(keyspaces) > 1 and shape.alone is None):
        return refused("R303", f"the statement uses {shape.names}, which live apart")
    anchor = shape.anchor
    if shape.alone is not None or anchor is None:
        return _refused_alone(shape, read, around)
    keyspace = anchor.keyspace
    wanted = shards_of(anchor, read, around) or frozenset(list(around.unknown(keyspace))[:1])
    every = len(wanted) == len(keyspace.shards)
    named = names_keys(anchor, read)
    policy = around.scatter or keyspace.scatter or shard_map.scatter
    if every and not named and policy is Scatter.DENY:
        return denied(shape, keyspace)
    destinations = destinations_of(keyspace, wanted)
    copies = shape.common_copies()
    if copies is not None and any(one.database not in copies for one in destinations):
        return refused("R303", f"not every shard has a copy of all of {shape.names}")
    reason = "the keys are on several shards" if named else "no predicate names the shard key"
    return Target(
        Reach.ALL if every else Reach.SOME,
        destinations,
        (f"{', '.join(anchor.tables)}: {reason}", "rows are concatenated"),
        narrowing=_narrowing(shape, anchor, read, around),
    )


def denied(shape: Shape, keyspace: ShardedKeyspace) -> Target:
    """Return the refusal of a read without a key where scatter is denied."""
    what = f"{shape.names}: no shard key is given, and keyspace {keyspace.name} denies scatter"
    return refused("R309", what)


def destinations_of(keyspace: ShardedKeyspace, wanted: frozenset[str]) -> tuple[Destination, ...]:
    """Return where the shards of `wanted` live, in the order of the map."""
    shards = [shard for shard in keyspace.shards if shard in wanted]
    return tuple(Destination(keyspace.shards[s], keyspace.shard_id(s)) for s in shards)


def _refused_alone(shape: Shape, read: Read, around: Circumstances) -> Target:
    refusal = shape.alone or Refusal("R302", f"{shape.names} are not colocated")
    reached = {
        one.keyspace.shard_id(shard)
        for one in shape.constraints
        for shard in shards_of(one, read, around)
    }
    what = f"{refusal.what}; this reaches {_listed(sorted(reached))}"
    return Target(Reach.REFUSED, refusal=replace(refusal, what=what))


def _listed(shards: Sequence[str]) -> str:
    return ", ".join(shards) if len(shards) <= 4 else f"{len(shards)} shards"


def _narrowing(
    shape: Shape, anchor: Constraint, read: Read, around: Circumstances
) -> Narrowing | None:
    if shape.narrow is None:
        return None
    value, positions = shape.narrow.value, [int(str(one)) for one in shape.narrow.columns]
    parts: dict[str, list[Any]] = {}
    for element in members(read(value)):
        items = members(element) if len(positions) > 1 else (scalar(element),)
        if any(item is None for item in items):
            continue
        at = dict(zip(positions, items, strict=True))
        key = tuple(normalise(anchor, n, at[n]) for n in range(len(anchor.types)))
        shard = locate_key(anchor.keyspace, key, around.locate)
        if shard is not None:
            parts.setdefault(anchor.keyspace.shards[shard], []).append(element)
    return Narrowing(value.index, value.name, parts)
