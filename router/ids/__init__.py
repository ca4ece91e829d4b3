"""Ids that no two shards, workers or moments share.

::

    from router import ids

    class Order(Base):
        id: Mapped[int] = mapped_column(BigInteger, primary_key=True, default=ids.TimeIds(node=3))

`TimeIds` are 64-bit integers in the order of time, `uuid7` gives UUIDs in that order,
`BucketIds` are time ids from which the shard can be read, and a `StripedSequence` is a sequence
that each shard counts in steps of its own.
"""

from router.ids.bucket_ids import BucketIds
from router.ids.leases import nodes_table
from router.ids.nodes import FixedNode, LeasedNode
from router.ids.sequences import StripedSequence
from router.ids.time_ids import TimeIds
from router.ids.uuids import uuid7

__all__ = [
    "BucketIds",
    "FixedNode",
    "LeasedNode",
    "StripedSequence",
    "TimeIds",
    "nodes_table",
    "uuid7",
]
