"""How a read that spans shards is answered exactly where rows cannot just be concatenated."""

from __future__ import annotations

from dataclasses import replace

from router.route.circumstances import Circumstances
from router.route.keys import names_keys, shards_of
from router.route.predicates import Read
from router.route.several import aim_at_several, denied, destinations_of
from router.route.shape import Shape
from router.route.target import Destination, Reach, Refusal, Target, Tier
from router.shardmap.model import Scatter, ShardMap

ANSWERABLE = ("R301", "R302", "R303")
"""The refusals of `router.route.aim` for which there is an exact way."""


def exact(
    shape: Shape, refusal: Refusal, read: Read, shard_map: ShardMap, around: Circumstances
) -> Target:
    """Return the target of a read that one shard, or plain concatenation, cannot answer."""
    if shape.spread is not None:
        spread = replace(shape, alone=None, anchor=shape.spread)
        target = aim_at_several(spread, read, shard_map, around)
        if target.refusal is None:
            reasons = (target.reasons[0], _why(shape, refusal))
            return replace(target, reasons=reasons, exact=Tier.MERGED)
    return gathered(shape, refusal, read, shard_map, around)


def gathered(
    shape: Shape, refusal: Refusal, read: Read, shard_map: ShardMap, around: Circumstances
) -> Target:
    """Return the target of a read whose tables are copied to one database."""
    if shape.locks:
        return Target(Reach.REFUSED, refusal=locking(shape))
    if shard_map.gather_max_rows == 0:
        what = f"{refusal.what}; `gather: {{max_rows: 0}}` forbids to gather it"
        return Target(Reach.REFUSED, refusal=replace(refusal, what=what))
    wanted: dict[str, frozenset[str]] = {}
    complete = True
    for one in shape.constraints:
        shards = shards_of(one, read, around)
        every = len(shards) == len(one.keyspace.shards)
        policy = around.scatter or one.keyspace.scatter or shard_map.scatter
        if every and policy is Scatter.DENY and not names_keys(one, read):
            return denied(shape, one.keyspace)
        complete = complete and every
        wanted[one.keyspace.name] = shards | wanted.get(one.keyspace.name, frozenset())
    keyspaces = {one.keyspace.name: one.keyspace for one in shape.constraints}
    found = [
        at for name, shards in wanted.items() for at in destinations_of(keyspaces[name], shards)
    ]
    found += [Destination(keyspace.database) for keyspace in shape.unsharded]
    reach = Reach.ALL if complete else Reach.SOME
    return Target(reach, tuple(dict.fromkeys(found)), (_why(shape, refusal),), exact=Tier.GATHERED)


def locking(shape: Shape) -> Refusal:
    """Return the refusal of a locking read whose tables would have to be copied."""
    what = f"rows of {shape.names} that are gathered from several databases cannot be locked"
    fix = "lock them by a statement whose tables are joined on equal shard keys"
    return Refusal("R302", what, fix=fix)


def _why(shape: Shape, refusal: Refusal) -> str:
    return shape.alone.what if shape.alone is not None else refusal.what
