"""Where a maker of ids has its node number from: the configuration, or a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

from sqlalchemy import Engine

from router.errors import RoutingError
from router.ids.forks import forget_on_fork
from router.ids.leases import TABLE, Lease, Reservation

_FOREVER = 1 << 62


class Reserves(Protocol):
    """The node of one maker of ids."""

    def reserve(self, millisecond: int) -> Reservation:
        """Return a node that may make ids at `millisecond` or soon after it."""
        ...


class FixedNode:
    """A node number of the configuration, which no other process may have.

    Its ids rely on the clock not being set back while the process is down.

    Parameters
    ----------
    number:
        Counted from 0.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._forked = False
        forget_on_fork(self)

    def forget(self) -> None:
        """Give no node to a forked child."""
        self._forked = True

    def lease(self, node_bits: int) -> FixedNode:
        """Return the node, for a maker of ids with so many bits of node.

        Raises
        ------
        RoutingError
            The number is too large.
        """
        if not 0 <= self._number < 1 << node_bits:
            raise RoutingError("R803", f"node {self._number} of 0 to {(1 << node_bits) - 1}")
        return self

    def reserve(self, millisecond: int) -> Reservation:
        """Return the node, for all times.

        Raises
        ------
        RoutingError
            This is a forked child of the process that was given the number.
        """
        del millisecond
        if self._forked:
            what = f"node {self._number} belongs to the parent of this process"
            fix = "use a LeasedNode, or make the generator after the fork"
            raise RoutingError("R804", what, fix=fix)
        return Reservation(self._number, 0, _FOREVER)


class LeasedNode:
    """Node numbers that are leased from a table, so that two makers of ids never share one.

    One of these serves all makers of a process; each gets a number of its own.

    Parameters
    ----------
    engine:
        The database of the table, or what returns its engine when it is first needed.
    name:
        Leases of different names may have the same numbers.
    window:
        For how many seconds ids are reserved at a time, with one short transaction.
    """

    def __init__(
        self, engine: Engine | Callable[[], Engine], *, name: str = "default", window: int = 600
    ) -> None:
        self._given = engine
        self._name = name
        self._window = window
        self._forked = False
        self._leases: WeakSet[Lease] = WeakSet()
        forget_on_fork(self)

    def forget(self) -> None:
        """Lease other numbers for a forked child."""
        self._forked = True
        for one in list(self._leases):
            one.forget()

    def lease(self, node_bits: int) -> Lease:
        """Return a lease for a maker of ids with so many bits of node; its number comes later."""
        # A number that fits one maker may be too large for another.
        name = f"{self._name}/{node_bits}"
        found = Lease(self._engine, name, 1 << node_bits, self._window)
        self._leases.add(found)
        return found

    def release(self) -> None:
        """Give the numbers back, for a process that ends; they would be free some time later."""
        for one in list(self._leases):
            one.release()

    def create_table(self) -> None:
        """Create the table, if it is not there."""
        TABLE.create(self._engine(), checkfirst=True)

    def _engine(self) -> Engine:
        engine = self._given if isinstance(self._given, Engine) else self._given()
        if self._forked:
            # The parent's connections are the parent's.
            engine.dispose(close=False)
            self._forked = False
        return engine
