"""Where a maker of ids has its node number from: the configuration, or a table.

::

    router_nodes (name, node, owner, ceiling, expires), primary key (name, node)

A holder of a leased node makes ids only up to the millisecond `ceiling` that it has written and
committed before.  Whoever takes a node over, since its lease has expired, starts above the
ceiling that it finds.  So two holders never make one id: not when the first was only paused,
not when their clocks differ, and not when a clock was set back.  That a lease expires decides
only when its number may be used again; its clock is that of the database.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    inspect,
    select,
    text,
)
from sqlalchemy import exc as sa_exc

from router.errors import RoutingError
from router.hooks.colour import pause
from router.ids.forks import forget_on_fork

_FOREVER = 1 << 62
_ATTEMPTS = 20

_NOW = {
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)",
    "mysql": "SELECT UNIX_TIMESTAMP()",
    "mariadb": "SELECT UNIX_TIMESTAMP()",
    "sqlite": "SELECT CAST(strftime('%s', 'now') AS INTEGER)",
}


@dataclass(frozen=True, slots=True)
class Reservation:
    """A node, and the milliseconds since 1970, both included, in which it may make ids."""

    node: int
    first: int
    last: int


class Nodes(Protocol):
    """Gives a maker of ids its node."""

    def reserve(self, millisecond: int, nodes: int) -> Reservation:
        """Return a node below `nodes` that may make ids at `millisecond` or soon after it."""
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

    def reserve(self, millisecond: int, nodes: int) -> Reservation:
        """Return the node, for all times.

        Raises
        ------
        RoutingError
            The number is too large, or this is a forked child of the process that was given it.
        """
        del millisecond
        if not 0 <= self._number < nodes:
            raise RoutingError("R803", f"node {self._number} of 0 to {nodes - 1}")
        if self._forked:
            what = f"node {self._number} belongs to the parent of this process"
            fix = "use a LeasedNode, or make the generator after the fork"
            raise RoutingError("R804", what, fix=fix)
        return Reservation(self._number, 0, _FOREVER)


def nodes_table(metadata: MetaData) -> Table:
    """Describe the table of leases, for migrations."""
    return Table(
        "router_nodes",
        metadata,
        Column("name", String(64), primary_key=True),
        Column("node", Integer, primary_key=True, autoincrement=False),
        Column("owner", String(32), nullable=False),
        Column("ceiling", BigInteger, nullable=False),
        Column("expires", BigInteger, nullable=False),
    )


_TABLE = nodes_table(MetaData())


class LeasedNode:
    """A node number that is leased from a table, so that two processes never share one.

    Parameters
    ----------
    engine:
        The database of the table, or what returns its engine when it is first needed.
    name:
        Makers of different names may have the same numbers: use one for each kind of id.
    window:
        For how many seconds ids are reserved at a time, with one short transaction.
    """

    def __init__(
        self, engine: Engine | Callable[[], Engine], *, name: str = "default", window: int = 600
    ) -> None:
        self._given = engine
        self._name = name
        self._window = window
        self._owner = ""
        self._node = -1
        self._forked = False
        forget_on_fork(self)

    def forget(self) -> None:
        """Lease a node of its own for a forked child."""
        self._owner, self._node, self._forked = "", -1, True

    def release(self) -> None:
        """Give the node back, for a process that ends; it would be free some time later."""
        if self._owner:
            with self._engine().begin() as connection:
                mine = self._own(self._node, self._owner)
                connection.execute(_TABLE.update().where(*mine).values(expires=0))
            self._owner, self._node = "", -1

    def create_table(self) -> None:
        """Create the table, if it is not there."""
        _TABLE.create(self._engine(), checkfirst=True)

    def reserve(self, millisecond: int, nodes: int) -> Reservation:
        """Reserve the milliseconds of a window from `millisecond` on; lease a node if need be.

        Raises
        ------
        RoutingError
            All `nodes` are leased, or the table is not there.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._engine().begin() as connection:
                    found = self._renewed(connection, millisecond)
                    found = found or self._leased(connection, millisecond, nodes)
            except (sa_exc.IntegrityError, sa_exc.OperationalError, sa_exc.ProgrammingError) as e:
                self._explain(e)
                if attempt + 1 == _ATTEMPTS:
                    raise
                # Another process was quicker, or a small database was busy.
                pause(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311
                continue
            if found is None:
                raise RoutingError("R803", f"all {nodes} nodes of {self._name!r} are leased")
            return found
        raise RoutingError("R803", f"no node of {self._name!r} could be leased")

    def _engine(self) -> Engine:
        engine = self._given if isinstance(self._given, Engine) else self._given()
        if self._forked:
            # The parent's connections are the parent's.
            engine.dispose(close=False)
            self._forked = False
        return engine

    def _explain(self, error: Exception) -> None:
        if isinstance(error, sa_exc.IntegrityError):
            return
        if not inspect(self._engine()).has_table(_TABLE.name):
            what = "the table router_nodes is not there"
            raise RoutingError("R805", what) from error

    def _renewed(self, connection: Connection, millisecond: int) -> Reservation | None:
        if not self._owner:
            return None
        mine = self._own(self._node, self._owner)
        row = connection.execute(select(_TABLE.c.ceiling).where(*mine).with_for_update()).first()
        if row is None:
            return None
        return self._write(connection, self._node, self._owner, millisecond, row.ceiling)

    def _leased(self, connection: Connection, millisecond: int, nodes: int) -> Reservation | None:
        """Take over the first node whose lease has expired, else the first that no one had."""
        now = int(connection.scalar(text(_NOW[connection.dialect.name])) or 0)
        rows = connection.execute(
            select(_TABLE).where(_TABLE.c.name == self._name).order_by(_TABLE.c.node)
        ).all()
        owner = uuid4().hex
        for row in rows:
            if row.expires < now and row.node < nodes:
                taken = self._own(row.node, row.owner)
                found = connection.execute(_TABLE.update().where(*taken).values(owner=owner))
                if found.rowcount == 1:
                    locked = select(_TABLE.c.ceiling).where(*self._own(row.node, owner))
                    ceiling = connection.scalar(locked.with_for_update()) or 0
                    return self._write(connection, row.node, owner, millisecond, ceiling)
        free = next((n for n in range(nodes) if n not in {row.node for row in rows}), None)
        if free is None:
            return None
        values = {"name": self._name, "node": free, "owner": owner, "ceiling": 0, "expires": 0}
        connection.execute(_TABLE.insert(), values)
        return self._write(connection, free, owner, millisecond, 0)

    def _write(
        self, connection: Connection, node: int, owner: str, millisecond: int, ceiling: int
    ) -> Reservation:
        first = max(millisecond, ceiling + 1)
        last = first + self._window * 1000
        now = int(connection.scalar(text(_NOW[connection.dialect.name])) or 0)
        # Twice as long as the window, so that a clock that runs fast does not lose its node.
        values = {"ceiling": last, "expires": now + 2 * self._window}
        connection.execute(_TABLE.update().where(*self._own(node, owner)).values(values))
        self._node, self._owner = node, owner
        return Reservation(node, first, last)

    def _own(self, node: int, owner: str) -> tuple[ColumnElement[bool], ...]:
        return (_TABLE.c.name == self._name, _TABLE.c.node == node, _TABLE.c.owner == owner)
