"""From a statement's shape and one execution's parameters to its target."""

from __future__ import annotations

from router.route.circumstances import Circumstances, Locate, by_function
from router.route.keys import shards_of
from router.route.outside import outside_partition
from router.route.parameters import Parameters, refuse_names
from router.route.predicates import ANYTHING, Read
from router.route.several import aim_at_several
from router.route.shape import LASTING, Constraint, Lone, Shape
from router.route.target import Destination, Reach, Target, refused
from router.shardmap.functions.protocol import NoShardError
from router.shardmap.keytypes import KeyValueError
from router.shardmap.model import ShardMap

MAX_KNOWN = 10_000
"""How many keys of one statement shape are remembered with their targets."""

__all__ = ["Circumstances", "Locate", "aim", "by_function"]


def aim(shape: Shape, read: Parameters, shard_map: ShardMap, around: Circumstances) -> Target:
    """Return where the statement goes with these parameters."""
    if around.only is not None or (read.given and read.has_others()):
        _admit(shape, read, around)
    if shape.lone is not None and around.hint is None and not around.pinned:
        target = _alone(shape.lone, read, around)
        if target is not None:
            return target
    if around.hint is not None:
        return _hinted(shape, around.hint, around)
    if shape.refusal is not None:
        return Target(Reach.REFUSED, refusal=shape.refusal)
    if around.pinned:
        _check_partition(shape, around)
    if shape.copies:
        copies = tuple(Destination(name) for name in shape.references[0].databases)
        return Target(Reach.COPIES, copies, ("every copy of a reference table is written",))
    if not shape.constraints:
        return _without_shards(shape, around)
    shards = [shards_of(one, read, around) for one in shape.constraints]
    target = _single(shape, shards, around)
    return target if target is not None else aim_at_several(shape, read, shard_map, around)


def _admit(shape: Shape, read: Parameters, around: Circumstances) -> None:
    """Raise where the statement is not about the guarded key, or its values may be others."""
    if around.only is not None:
        around.only.admit(shape, read)
    if read.given and shape.constraints:
        refuse_names(read.strange(shape.fresh))


def _alone(lone: Lone, read: Read, around: Circumstances) -> Target | None:
    value = read(lone.value)
    if value is None:
        return None
    lasting = around.locate is by_function and value.__class__ in LASTING
    if lasting and value in lone.known:
        return lone.known[value]
    try:
        shard = around.locate(lone.keyspace, (lone.normalise(value),))
    except (KeyValueError, NoShardError):
        return None
    target = lone.targets[shard]
    if lasting and len(lone.known) < MAX_KNOWN:
        lone.known[value] = target
    return target


def _hinted(shape: Shape, hint: Destination, around: Circumstances) -> Target:
    if around.pinned and hint.shard not in {f"{k}/{s}" for k, s in around.pinned.items()}:
        raise outside_partition(f"this would reach {hint}", around.pinned)
    if shape.refusal is not None and shape.refusal.id != "R304":
        return Target(Reach.REFUSED, refusal=shape.refusal)
    at_home = all(
        hint.shard is not None and hint.shard.startswith(f"{one.keyspace.name}/")
        for one in shape.constraints
    ) and all(keyspace.database == hint.database for keyspace in shape.unsharded)
    copies = shape.common_copies()
    if not shape.tables and shape.refusal is None:
        return Target(Reach.ONE, (hint,), ("the caller says where",))
    if not at_home or (copies is not None and hint.database not in copies):
        return refused("R303", f"not all of {shape.names} is in {hint}")
    if shape.copies:
        return refused("R308", f"a write to {shape.names} must reach every copy, not {hint}")
    return Target(Reach.ONE, (hint,), ("the caller says where",))


def _check_partition(shape: Shape, around: Circumstances) -> None:
    outside = [keyspace.name for keyspace in shape.unsharded]
    outside += [one.keyspace.name for one in shape.constraints]
    for name in outside:
        if name not in around.pinned:
            raise outside_partition(f"this would reach keyspace {name}", around.pinned)
    if shape.copies:
        raise outside_partition("this would write every copy of a reference table", around.pinned)


# -- one database ------------------------------------------------------------------------------


def _without_shards(shape: Shape, around: Circumstances) -> Target:
    databases = {keyspace.database for keyspace in shape.unsharded}
    if len(databases) > 1:
        return refused("R303", f"the statement uses {shape.names}, which live apart")
    if databases:
        return _on_database(shape, databases.pop())
    copies = shape.common_copies() or []
    if not copies:
        return refused("R303", f"no database holds copies of all of {shape.names}")
    chosen = next((name for name in around.preferred if name in copies), copies[0])
    return Target(Reach.ONE, (Destination(chosen),), ("a reference table is read from one copy",))


def _on_database(shape: Shape, database: str) -> Target:
    copies = shape.common_copies()
    if copies is not None and database not in copies:
        return refused("R303", f"database {database} has no copy of all of {shape.names}")
    return Target(Reach.ONE, (Destination(database),), ("every table lives in one database",))


def _single(shape: Shape, shards: list[frozenset[str]], around: Circumstances) -> Target | None:
    """Return the one database that holds every row that matters, if there is one."""
    if any(len(found) > 1 for found in shards):
        return None
    keyspaces = [one.keyspace for one in shape.constraints]
    # Where no row of a table can match, every shard of it gives the same answer.
    homes = [
        {keyspace.shards[shard] for shard in found or around.unknown(keyspace)}
        for keyspace, found in zip(keyspaces, shards, strict=True)
    ]
    homes += [{keyspace.database} for keyspace in shape.unsharded]
    copies = shape.common_copies()
    if copies is not None:
        homes.append(set(copies))
    common = set.intersection(*homes)
    reasons = tuple(_reason(one, around) for one in shape.constraints)
    if not any(shards):
        reasons = ("no row can match",)
    # The shard that holds the rows is named, rather than one where there are none.
    for keyspace, found in sorted(
        zip(keyspaces, shards, strict=True), key=lambda pair: not pair[1]
    ):
        for shard, database in keyspace.shards.items():
            if database in common and (not found or shard in found):
                return Target(
                    Reach.ONE, (Destination(database, keyspace.shard_id(shard)),), reasons
                )
    return None


def _reason(constraint: Constraint, around: Circumstances) -> str:
    if constraint.predicate is not ANYTHING:
        return constraint.reason
    tables, keyspace = ", ".join(constraint.tables), constraint.keyspace
    if keyspace.name in around.pinned:
        return (
            f"{tables}: the session is pinned to {keyspace.shard_id(around.pinned[keyspace.name])}"
        )
    if keyspace.name in around.near:
        return f"{tables}: loaded for a row of {keyspace.shard_id(around.near[keyspace.name])}"
    return f"{tables}: {keyspace.name} has a single shard"
