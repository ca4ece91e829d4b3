"""The bits of an id: 41 of milliseconds since 2025, then bucket, node and number.

A positive signed 64-bit integer.  Bucket, node and number have 22 bits together.  The
arrangement goes back to Twitter's Snowflake (2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from router.errors import RoutingError

START = datetime(2025, 1, 1, tzinfo=UTC)
_START_MS = int(START.timestamp() * 1000)
_TIME_BITS, _OTHER_BITS, _LEAST_NUMBER_BITS = 41, 22, 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How many bits of an id say what.

    Raises
    ------
    RoutingError
        Less than 16 ids of one node would have room in a millisecond.
    """

    node_bits: int
    bucket_bits: int = 0

    def __post_init__(self) -> None:
        if self.node_bits < 0 or self.bucket_bits < 0 or self.number_bits < _LEAST_NUMBER_BITS:
            what = f"{self.node_bits} bits of node and {self.bucket_bits} of bucket"
            fix = f"have {_OTHER_BITS - _LEAST_NUMBER_BITS} bits of both together at most"
            raise RoutingError("R801", what, fix=fix)

    @property
    def number_bits(self) -> int:
        """How many bits tell ids of one millisecond apart."""
        return _OTHER_BITS - self.node_bits - self.bucket_bits

    def compose(self, millisecond: int, bucket: int, node: int, number: int) -> int:
        """Return the id; `millisecond` is since 1970.

        Raises
        ------
        RoutingError
            The clock says a time before 2025 or after 2094, which no id can hold.
        """
        since = millisecond - _START_MS
        if not 0 <= since < 1 << _TIME_BITS:
            what = f"the clock is at {millisecond} ms since 1970"
            raise RoutingError("R802", what)
        if node >> self.node_bits or bucket >> self.bucket_bits or number >> self.number_bits:
            raise RoutingError("R801", f"node {node}, bucket {bucket} and number {number}")
        above = ((since << self.bucket_bits | bucket) << self.node_bits) | node
        return above << self.number_bits | number

    def time_of(self, id: int) -> datetime:
        """Return when an id was made, by the clock of its maker."""
        return START + timedelta(milliseconds=id >> _OTHER_BITS)

    def node_of(self, id: int) -> int:
        """Return the node that made an id."""
        return id >> self.number_bits & (1 << self.node_bits) - 1

    def bucket_of(self, id: int) -> int:
        """Return the bucket that an id carries."""
        return id >> (self.number_bits + self.node_bits) & (1 << self.bucket_bits) - 1
