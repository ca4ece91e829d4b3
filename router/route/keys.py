"""From what a statement says of its keys to the shards that may hold matching rows."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from typing import Any

from router.errors import RoutingError
from router.route.circumstances import Circumstances, Locate
from router.route.predicates import (
    Box,
    Equals,
    Interval,
    Null,
    Predicate,
    Read,
    Reader,
    possible,
)
from router.route.secondary import Secondary
from router.route.shape import Constraint
from router.shardmap.functions.protocol import NoShardError, OrderedFunction
from router.shardmap.keytypes import KeyKind, KeyValueError
from router.shardmap.model import ShardedKeyspace

MAX_KEYS = 100_000
"""Beyond this many combinations of a composite key's values, every shard is asked."""

MAX_SECONDARY = 500
"""Beyond this many values of a secondary key, they are left out of account."""

_NUMBERS = (KeyKind.INTEGER, KeyKind.DECIMAL)


def shards_of(constraint: Constraint, read: Read, around: Circumstances) -> frozenset[str]:
    """Return every shard that may hold matching rows; empty where no row can match."""
    keyspace, predicate = constraint.keyspace, constraint.predicate
    if type(predicate) is Equals and len(constraint.types) == 1:
        value = read(predicate.value)
        if value is None:
            return frozenset()
        shard = locate_key(keyspace, (normalise(constraint, 0, value),), around.locate)
        return around.check(keyspace, frozenset((shard,)) if shard is not None else frozenset())
    boxes = boxes_of(constraint, read)
    found = frozenset[str]().union(*(_shards_of_box(box, keyspace, around) for box in boxes))
    for secondary, said in constraint.secondary:
        if len(found) > 1:
            others = _shards_by(secondary, said, read, around)
            found = found if others is None else found & others
    return found


def _shards_by(
    secondary: Secondary, predicate: Predicate, read: Read, around: Circumstances
) -> frozenset[str] | None:
    """Return the shards that a secondary key leaves possible, None if it says nothing."""

    def normal(at: int, value: Any) -> Any:
        return secondary.types[at].normalise(value)

    try:
        boxes = possible(predicate, Reader(read, normal, normal, len(secondary.types)))
    except KeyValueError:
        # How a database compares values of other types is not known here.
        return None
    domains = [[one for one in box if isinstance(one, frozenset)] for box in boxes]
    if any(len(some) < len(secondary.types) for some in domains):
        return None
    if sum(math.prod(map(len, some)) for some in domains) > MAX_SECONDARY:
        return None
    keys: list[Any] = [key for some in domains for key in itertools.product(*some)]
    if any(Null.NULL in key for key in keys):
        return None
    if secondary.shard_of is None:
        return around.seek(secondary, keys)
    return frozenset(shard for shard in map(secondary.shard_of, keys) if shard is not None)


def names_keys(constraint: Constraint, read: Read) -> bool:
    """Return whether the keys of matching rows are known, be they on every shard."""
    return all(_is_known(box, constraint.keyspace) for box in boxes_of(constraint, read))


def boxes_of(constraint: Constraint, read: Read) -> list[Box]:
    """Return the keys that matching rows may have: they are in one of the boxes."""
    reader = Reader(
        read,
        lambda at, item: normalise(constraint, at, item),
        lambda at, item: _bound(constraint, at, item),
        len(constraint.types),
    )
    return possible(constraint.predicate, reader)


def normalise(constraint: Constraint, position: int, value: Any) -> Any:
    """Return the key value that `value` stands for; raise `RoutingError` for a wrong type."""
    try:
        return constraint.types[position].normalise(value)
    except KeyValueError as error:
        raise wrong_key(
            constraint.keyspace, constraint.tables, constraint.key, position, error
        ) from error


def _bound(constraint: Constraint, position: int, value: Any) -> Any:
    """Return the key value that ends a range, None for a number that is no key."""
    key_type = constraint.types[position]
    if key_type.kind in _NUMBERS and isinstance(value, (float, Decimal)):
        try:
            return key_type.normalise(value)
        except KeyValueError:
            return None
    return normalise(constraint, position, value)


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


def locate_key(keyspace: ShardedKeyspace, key: tuple[Any, ...], locate: Locate) -> str | None:
    """Return the shard that holds rows of `key`, or None where there can be none."""
    if Null.NULL in key:
        return keyspace.null_shard
    try:
        return locate(keyspace, key)
    except NoShardError:
        return None


def _shards_of_box(box: Box, keyspace: ShardedKeyspace, around: Circumstances) -> frozenset[str]:
    if not _is_known(box, keyspace):
        return around.unknown(keyspace)
    if isinstance(box[0], Interval) and isinstance(keyspace.function, OrderedFunction):
        return around.check(keyspace, keyspace.function.shards_between(box[0].low, box[0].high))
    domains = [domain for domain in box if isinstance(domain, frozenset)]
    found = (locate_key(keyspace, key, around.locate) for key in itertools.product(*domains))
    return around.check(keyspace, frozenset(shard for shard in found if shard is not None))


def _is_known(box: Box, keyspace: ShardedKeyspace) -> bool:
    """Return whether the shards of a box's keys can be told."""
    if len(box) == 1 and isinstance(box[0], Interval):
        return isinstance(keyspace.function, OrderedFunction)
    domains = [domain for domain in box if isinstance(domain, frozenset)]
    return len(domains) == len(box) and math.prod(map(len, domains)) <= MAX_KEYS
