"""Ids from which the shard can be read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table
from xxhash import xxh64_intdigest

from router.errors import RoutingError
from router.ids.layout import Layout
from router.ids.ticks import Now, wall_clock
from router.ids.time_ids import Maker, Node
from router.shardmap.columns import key_type
from router.shardmap.keys import encode


class BucketIds:
    """Makes time ids that carry the bucket of their row's shard key; a default for columns.

    With it, the id alone names the shard: ``session.get(Order, id)`` asks one.

    >>> class Order(Base):
    ...     id = mapped_column(BigInteger, primary_key=True,
    ...                        default=BucketIds("customer_id", buckets=1024, node=3))
    ...     customer_id = mapped_column(ForeignKey("customers.id"))

    Rows must have no other ids: one that does not carry the bucket of its row is refused.

    Parameters
    ----------
    column:
        The name of the shard key, a single column of the same table.
    buckets:
        The buckets of the keyspace, whose sharding function is ``hash``.
    node, node_bits, now:
        See `TimeIds`.  With 1024 buckets and 64 nodes, a node makes up to 64,000 ids in a
        second; beyond that, the time in them runs ahead of the clock.
    """

    def __init__(
        self, column: str, *, buckets: int, node: Node, node_bits: int = 6, now: Now = wall_clock
    ) -> None:
        self.column = column
        self.buckets = buckets
        self._layout = Layout(node_bits, (buckets - 1).bit_length())
        self._maker = Maker(node, self._layout, now)

    def __call__(self, context: Any) -> int:
        """Return a new id for the row that SQLAlchemy writes in `context`.

        Raises
        ------
        RoutingError
            The row does not give its shard key.
        """
        row = context.get_current_parameters()
        key = row.get(self.column)
        if key is None:
            what = f"a bucket id needs the shard key {self.column} of its row"
            raise RoutingError("R202", what, fix="give the row its shard key")
        return self.of_key(key, context.current_column.table)

    def of_key(self, key: Any, table: Table) -> int:
        """Return a new id for a row of `table` with this shard key."""
        column: Column[Any] = table.c[self.column]
        normal = key_type(column.type).normalise(key)
        return self._maker.make(xxh64_intdigest(encode((normal,))) % self.buckets)

    def bucket_of(self, id: int) -> int:
        """Return the bucket that an id carries."""
        return self._layout.bucket_of(id)
