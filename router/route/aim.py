"""From a statement's shape and one execution's parameters to its target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.errors import RoutingError
from router.route.predicates import Box, Equals, Interval, Null, Read, Reader, possible, scalar
from router.route.shape import Constraint, Lone, Shape
from router.route.target import Destination, Narrowing, Reach, Refusal, Target
from router.shardmap.functions.protocol import Key, NoShardError, OrderedFunction
from router.shardmap.keytypes import KeyValueError
from router.shardmap.model import Scatter, ShardedKeyspace, ShardMap

MAX_KEYS = 100_000
"""Beyond this many combinations of a composite key's values, every shard is asked."""

Locate = Callable[[ShardedKeyspace, Key], str]
"""Returns the shard of a key; raises `NoShardError` where there is none."""


def by_function(keyspace: ShardedKeyspace, key: Key) -> str:
    """Return the shard that the keyspace's own function gives `key`."""
    return keyspace.function.shard_of(key)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a statement meets besides its own text.

    `hint` is where the caller says that the statement goes.  `pinned` maps the keyspace of
    the session's partition to its only shard: what leaves it is refused.  `near` maps a
    keyspace to the shard that a loader works for: it is used where no key is known.
    `preferred` are databases already in use, from which a reference table is read first.
    """

    locate: Locate = by_function
    hint: Destination | None = None
    pinned: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, str] = field(default_factory=dict)
    preferred: Sequence[str] = ()
    scatter: Scatter | None = None

    def check(self, keyspace: ShardedKeyspace, shards: frozenset[str]) -> frozenset[str]:
        """Return `shards`; raise `RoutingError` if they leave the session's partition."""
        pin = self.pinned.get(keyspace.name)
        if pin is not None and not shards <= {pin}:
            outside = ", ".join(sorted(keyspace.shard_id(shard) for shard in shards - {pin}))
            raise outside_partition(f"this would reach {outside}", self.pinned)
        return shards


def outside_partition(what: str, pinned: Mapping[str, str]) -> RoutingError:
    """Return the error for what would leave the session's partition."""
    pins = ", ".join(f"{keyspace}/{shard}" for keyspace, shard in pinned.items())
    return RoutingError("R208", f"the session is pinned to {pins}; {what}")


def aim(shape: Shape, read: Read, shard_map: ShardMap, around: Circumstances) -> Target:
    """Return where the statement goes with these parameters."""
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
    shards = [_shards_of(one, read, around) for one in shape.constraints]
    target = _single(shape, shards, around)
    return target if target is not None else _several(shape, read, shard_map, around)


def _alone(lone: Lone, read: Read, around: Circumstances) -> Target | None:
    value = read(lone.value)
    if value is None:
        return None
    try:
        shard = around.locate(lone.keyspace, (lone.normalise(value),))
    except (KeyValueError, NoShardError):
        return None
    return lone.targets[shard]


def _hinted(shape: Shape, hint: Destination, around: Circumstances) -> Target:
    if around.pinned and hint.shard not in {f"{k}/{s}" for k, s in around.pinned.items()}:
        raise outside_partition(f"this would reach {hint}", around.pinned)
    if shape.refusal is not None and shape.refusal.id != "R304":
        return Target(Reach.REFUSED, refusal=shape.refusal)
    at_home = all(
        hint.shard is not None and hint.shard.startswith(f"{one.keyspace.name}/")
        for one in shape.constraints
    ) and all(keyspace.database == hint.database for keyspace in shape.unsharded)
    copies = _copies(shape)
    if not at_home or (copies is not None and hint.database not in copies):
        return _refused("R303", f"{_names(shape)} do not all live in {hint}")
    if shape.copies:
        return _refused("R308", f"a write to {_names(shape)} must reach every copy, not {hint}")
    return Target(Reach.ONE, (hint,), ("the caller says where",))


def _check_partition(shape: Shape, around: Circumstances) -> None:
    outside = [keyspace.name for keyspace in shape.unsharded]
    outside += [one.keyspace.name for one in shape.constraints]
    for name in outside:
        if name not in around.pinned:
            raise outside_partition(f"this would reach keyspace {name}", around.pinned)
    if shape.copies:
        raise outside_partition("this would write every copy of a reference table", around.pinned)


# -- keys ------------------------------------------------------------------------------------


def normalise(constraint: Constraint, position: int, value: Any) -> Any:
    """Return the key value that `value` stands for; raise `RoutingError` for a wrong type."""
    try:
        return constraint.types[position].normalise(value)
    except KeyValueError as error:
        raise wrong_key(
            constraint.keyspace, constraint.tables, constraint.key, position, error
        ) from error


def wrong_key(
    keyspace: ShardedKeyspace,
    tables: tuple[str, ...],
    key: tuple[str, ...],
    position: int,
    error: Exception,
) -> RoutingError:
    """Return the error for a key value that its column cannot hold."""
    what = f"the shard key {key[position]} of {', '.join(tables)}: {error}"
    return RoutingError("R204", what, where=keyspace.table_where.get(tables[0], keyspace.where))


def _shards_of(constraint: Constraint, read: Read, around: Circumstances) -> frozenset[str]:
    """Return every shard that may hold matching rows; empty where no row can match."""
    keyspace, predicate = constraint.keyspace, constraint.predicate
    if type(predicate) is Equals and len(constraint.types) == 1:
        value = read(predicate.value)
        if value is None:
            return frozenset()
        key = (normalise(constraint, 0, value),)
        found = locate_key(keyspace, key, around.locate)
        shards = frozenset((found,)) if found is not None else frozenset()
        return around.check(keyspace, shards)
    reader = Reader(read, lambda at, item: normalise(constraint, at, item), len(constraint.types))
    boxes = possible(predicate, reader)
    return frozenset().union(*(_shards_of_box(box, keyspace, around) for box in boxes))


def locate_key(keyspace: ShardedKeyspace, key: tuple[Any, ...], locate: Locate) -> str | None:
    """Return the shard that holds rows of `key`, or None where there can be none."""
    if Null.NULL in key:
        return keyspace.null_shard
    try:
        return locate(keyspace, key)
    except NoShardError:
        return None


def _shards_of_box(box: Box, keyspace: ShardedKeyspace, around: Circumstances) -> frozenset[str]:
    only = box[0] if len(box) == 1 else None
    if isinstance(only, Interval) and isinstance(keyspace.function, OrderedFunction):
        between = keyspace.function.shards_between(only.low, only.high)
        return around.check(keyspace, between)
    if not all(isinstance(domain, frozenset) for domain in box):
        return _unknown(keyspace, around)
    if math.prod(len(domain) for domain in box if isinstance(domain, frozenset)) > MAX_KEYS:
        return _unknown(keyspace, around)
    keys = itertools.product(*(domain for domain in box if isinstance(domain, frozenset)))
    found = (locate_key(keyspace, key, around.locate) for key in keys)
    return around.check(keyspace, frozenset(shard for shard in found if shard is not None))


def _unknown(keyspace: ShardedKeyspace, around: Circumstances) -> frozenset[str]:
    only = around.pinned.get(keyspace.name) or around.near.get(keyspace.name)
    return frozenset((only,)) if only is not None else frozenset(keyspace.shards)


# -- one database ------------------------------------------------------------------------------


def _without_shards(shape: Shape, around: Circumstances) -> Target:
    databases = {keyspace.database for keyspace in shape.unsharded}
    if len(databases) > 1:
        return _refused("R303", f"the statement uses {_names(shape)}, which live apart")
    if databases:
        return _on_database(shape, databases.pop(), ("every table lives in one database",))
    copies = _copies(shape) or []
    if not copies:
        return _refused("R303", f"no database holds copies of all of {_names(shape)}")
    chosen = next((name for name in around.preferred if name in copies), copies[0])
    return Target(Reach.ONE, (Destination(chosen),), ("a reference table is read from one copy",))


def _on_database(shape: Shape, database: str, reasons: tuple[str, ...]) -> Target:
    copies = _copies(shape)
    if copies is not None and database not in copies:
        return _refused("R303", f"database {database} has no copy of all of {_names(shape)}")
    return Target(Reach.ONE, (Destination(database),), reasons)


def _copies(shape: Shape) -> list[str] | None:
    """Return the databases with copies of all reference tables mentioned; None if none is."""
    if not shape.references:
        return None
    first, *others = (reference.databases for reference in shape.references)
    return [name for name in first if all(name in other for other in others)]


def _single(shape: Shape, shards: list[frozenset[str]], around: Circumstances) -> Target | None:
    """Return the one database that holds every row that matters, if there is one."""
    if any(len(found) > 1 for found in shards):
        return None
    found = list(zip(shape.constraints, shards, strict=True))
    # Where no row of a table can match, every shard of it gives the same answer.
    homes = [
        {one.keyspace.shards[shard] for shard in names} or _anywhere(one.keyspace, around)
        for one, names in found
    ]
    homes += [{keyspace.database} for keyspace in shape.unsharded]
    copies = _copies(shape)
    if copies is not None:
        homes.append(set(copies))
    common = set.intersection(*homes)
    keyspace, names = next(((o.keyspace, n) for o, n in found if n), (found[0][0].keyspace, ()))
    for shard, database in keyspace.shards.items():
        if database in common and (not names or shard in names):
            destination = Destination(database, keyspace.shard_id(shard))
            return Target(Reach.ONE, (destination,), _reasons(shape))
    return None


def _anywhere(keyspace: ShardedKeyspace, around: Circumstances) -> set[str]:
    pin = around.pinned.get(keyspace.name)
    return {keyspace.shards[pin]} if pin is not None else set(keyspace.shards.values())


def _reasons(shape: Shape) -> tuple[str, ...]:
    return tuple(
        f"{', '.join(one.tables)}: {' and '.join(one.key)} names one shard of {one.keyspace.name}"
        for one in shape.constraints
    )


# -- several shards -----------------------------------------------------------------------------


def _several(shape: Shape, read: Read, shard_map: ShardMap, around: Circumstances) -> Target:
    anchor = shape.anchor
    keyspaces = {one.keyspace.name for one in shape.constraints}
    if len(keyspaces) > 1 or shape.unsharded:
        return _refused("R303", f"the statement uses {_names(shape)}, which live apart")
    if shape.alone is not None or anchor is None:
        refusal = shape.alone or Refusal("R302", f"{_names(shape)} are not colocated")
        return Target(Reach.REFUSED, refusal=refusal)
    keyspace = anchor.keyspace
    wanted = _shards_of(anchor, read, around)
    every = len(wanted) == len(keyspace.shards)
    policy = around.scatter or keyspace.scatter or shard_map.scatter
    if every and policy is Scatter.DENY:
        what = (
            f"{_names(shape)}: no shard key is given, and keyspace {keyspace.name} denies scatter"
        )
        return _refused("R309", what)
    shards = [shard for shard in keyspace.shards if shard in wanted]
    destinations = tuple(Destination(keyspace.shards[s], keyspace.shard_id(s)) for s in shards)
    copies = _copies(shape)
    if copies is not None and any(one.database not in copies for one in destinations):
        return _refused("R303", f"not every shard has a copy of all of {_names(shape)}")
    reason = "no predicate names the shard key" if every else "the keys are on several shards"
    return Target(
        Reach.ALL if every else Reach.SOME,
        destinations,
        (f"{', '.join(anchor.tables)}: {reason}", "rows are concatenated"),
        narrowing=_narrowing(shape, anchor, read, around),
    )


def _narrowing(
    shape: Shape, anchor: Constraint, read: Read, around: Circumstances
) -> Narrowing | None:
    if shape.narrow is None:
        return None
    value, columns = shape.narrow.value, shape.narrow.columns
    parts: dict[str, list[Any]] = {}
    for element in read(value):
        items = element if len(columns) > 1 else (scalar(element),)
        if any(item is None for item in items):
            continue
        at = dict(zip(columns, items, strict=True))
        key = tuple(normalise(anchor, n, at[n]) for n in range(len(columns)))
        shard = locate_key(anchor.keyspace, key, around.locate)
        if shard is not None:
            parts.setdefault(anchor.keyspace.shards[shard], []).append(element)
    return Narrowing(value.index, value.name, parts)


def _refused(id: str, what: str) -> Target:
    return Target(Reach.REFUSED, refusal=Refusal(id, what))


def _names(shape: Shape) -> str:
    tables = [name for one in shape.constraints for name in one.tables]
    tables += [reference.table.fullname for reference in shape.references]
    tables += [f"tables of {keyspace.name}" for keyspace in shape.unsharded]
    return " and ".join(dict.fromkeys(tables))
