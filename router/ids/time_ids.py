"""64-bit ids in the order of time."""

from __future__ import annotations

from datetime import datetime
from threading import Lock

from router.ids.forks import forget_on_fork
from router.ids.layout import Layout
from router.ids.leases import Reservation
from router.ids.nodes import FixedNode, LeasedNode, Reserves
from router.ids.ticks import Now, Ticks, wall_clock

Node = int | FixedNode | LeasedNode


class Maker:
    """Makes the parts of ids that no other maker, and no other moment, has.

    Parameters
    ----------
    node:
        The number of this process, or where it is from.
    layout:
        The bits of the ids.
    now:
        The clock.
    """

    def __init__(self, node: Node, layout: Layout, now: Now = wall_clock) -> None:
        nodes = FixedNode(node) if isinstance(node, int) else node
        self._nodes: Reserves = nodes.lease(layout.node_bits)
        self._layout = layout
        self._ticks = Ticks(1 << layout.number_bits, now)
        self._reserved = Reservation(0, 0, -1)
        self._lock = Lock()
        forget_on_fork(self)

    def forget(self) -> None:
        """Have no node yet, in a forked child."""
        self._lock = Lock()
        self._reserved = Reservation(0, 0, -1)

    def make(self, bucket: int = 0) -> int:
        """Return a new id with a bucket in it, greater than all before with that bucket."""
        while True:
            reserved = self._reserved
            millisecond, number = self._ticks.next(reserved.first)
            if millisecond <= reserved.last:
                return self._layout.compose(millisecond, bucket, reserved.node, number)
            self._reserve(millisecond, reserved)

    def _reserve(self, millisecond: int, before: Reservation) -> None:
        with self._lock:
            # Of threads that ask at once, one reserves for all.
            if self._reserved is before:
                self._reserved = self._nodes.reserve(millisecond)


class TimeIds:
    """Makes 64-bit integers in the order of time; a default for columns.

    Each is greater than all that this maker has made before, even if the clock is set back, and
    differs from those of every other node.  May be called from several threads.

    >>> mapped_column(BigInteger, primary_key=True, default=TimeIds(node=3))

    Parameters
    ----------
    node:
        The number of this process, unlike that of any other, or a `LeasedNode`.
    node_bits:
        There can be 2 to the power of this many nodes.
    now:
        The clock, in milliseconds since 1970.

    Raises
    ------
    RoutingError
        When called: there is no free node, or a forked child uses its parent's.
    """

    def __init__(self, node: Node, *, node_bits: int = 10, now: Now = wall_clock) -> None:
        self._layout = Layout(node_bits)
        self._maker = Maker(node, self._layout, now)

    def __call__(self) -> int:
        """Return a new id."""
        return self._maker.make()

    def time_of(self, id: int) -> datetime:
        """Return when an id was made, by the clock of its maker, in UTC."""
        return self._layout.time_of(id)

    def node_of(self, id: int) -> int:
        """Return the node that made an id."""
        return self._layout.node_of(id)
