"""The one key that a guarded session is about, and the proof that a statement is.

A partition pins a shard, which many keys share.  Its guard goes further: it lets through what
would find its rows on one shard even if every key had a shard of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from router.route.keys import boxes_of
from router.route.outside import outside
from router.route.rows import KeyReader
from router.shardmap.functions.protocol import Key

if TYPE_CHECKING:
    from router.route.binds import ShardedTable
    from router.route.parameters import Parameters
    from router.route.predicates import Read
    from router.route.shape import Constraint, Shape
    from router.shardmap.model import ShardedKeyspace


@dataclass(frozen=True, slots=True)
class Only:
    """The only key of a keyspace whose rows may be read or written.

    Parameters
    ----------
    keyspace:
        The keyspace; reference tables and those of other keyspaces are not guarded.
    key:
        The key in its canonical form.
    values:
        The same as the application gave it.
    """

    keyspace: ShardedKeyspace
    key: Key = field(repr=False)
    values: tuple[object, ...] = field(repr=False, compare=False)

    def covers(self, keyspace: ShardedKeyspace) -> bool:
        """Return whether rows of `keyspace` are guarded."""
        return self.keyspace.name == keyspace.name

    def is_of(self, keyspace: ShardedKeyspace, key: Key) -> bool:
        """Return whether a key is the same one."""
        return self.covers(keyspace) and key == self.key

    # -- statements ------------------------------------------------------------------------

    def admit(self, shape: Shape, read: Parameters) -> None:
        """Raise `RoutingError` unless every row that matters to a statement has the key."""
        if shape.refusal is not None and shape.refusal.id == "R304":
            raise outside(f"{shape.refusal.what}, so that nobody can tell whose rows it is about")
        self.admit_names(read.strange(shape.fresh))
        if shape.fragments:
            raise outside(f"its {shape.fragments[0]} may be about other rows")
        for one in shape.constraints:
            if self.covers(one.keyspace) and not self._is_proven(one, read):
                key = " and ".join(one.key)
                what = f"it is not only about rows of {', '.join(one.tables)} with the {key}"
                raise outside(f"{what} of the guard")

    @staticmethod
    def admit_names(strange: set[str]) -> None:
        """Raise if there are names of parameters that may stand for others."""
        if strange:
            raise outside(f"{min(strange)!r} is not the name of a column or parameter of it")

    def _is_proven(self, constraint: Constraint, read: Read) -> bool:
        for box in boxes_of(constraint, read):
            pairs = zip(box, self.key, strict=True)
            if not all(isinstance(some, frozenset) and some <= {own} for some, own in pairs):
                return False
        return True

    # -- rows ------------------------------------------------------------------------------

    def admit_rows(
        self, binding: ShardedTable, rows: Iterable[Mapping[Any, Any]], mapper: Any
    ) -> None:
        """Raise `RoutingError` unless every one of new `rows` has the key."""
        if self.covers(binding.keyspace):
            reader = KeyReader(binding, mapper)
            for row in rows:
                self.admit_key(binding, reader.key(row))

    def admit_key(self, binding: ShardedTable, key: Key) -> None:
        """Raise `RoutingError` if a row has another key."""
        if self.covers(binding.keyspace) and key != self.key:
            names = " and ".join(binding.key)
            raise outside(f"a row of {binding.table.fullname} has another {names}")
