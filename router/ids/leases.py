"""One lease of a node number, in the table of leases.

::

    router_nodes (name, node, owner, ceiling, expires), primary key (name, node)

A holder makes ids only up to the millisecond `ceiling` that it has written and committed before.
Whoever takes a node over, since its lease has expired, starts above the ceiling that it finds.
So two holders never make one id: not when the first was only paused, not when their clocks
differ, and not when a clock was set back.  That a lease expires decides only when its number
may be used again; its clock is that of the database.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
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


TABLE = nodes_table(MetaData())


class Lease:
    """The node of one maker of ids.

    Parameters
    ----------
    engine:
        Returns the engine of the table's database.
    name:
        Of leases with one name, no two have the same number.
    nodes:
        Numbers are below this.
    window:
        For how many seconds ids are reserved at a time.
    """

    def __init__(self, engine: Callable[[], Engine], name: str, nodes: int, window: int) -> None:
        self._engine = engine
        self._name = name
        self._nodes = nodes
        self._window = window
        self._owner = ""
        self._node = -1

    def forget(self) -> None:
        """Have no node any more."""
        self._owner, self._node = "", -1

    def release(self) -> None:
        """Let others have the node now."""
        if self._owner:
            with self._engine().begin() as connection:
                mine = self._own(self._node, self._owner)
                connection.execute(TABLE.update().where(*mine).values(expires=0))
            self.forget()

    def reserve(self, millisecond: int) -> Reservation:
        """Reserve the milliseconds of a window from `millisecond` on; lease a node if need be.

        Raises
        ------
        RoutingError
            All nodes are leased, or the table is not there.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._engine().begin() as connection:
                    found = self._renewed(connection, millisecond)
                    found = found or self._leased(connection, millisecond)
            except (sa_exc.IntegrityError, sa_exc.OperationalError, sa_exc.ProgrammingError) as e:
                self._explain(e)
                if attempt + 1 == _ATTEMPTS:
                    raise
                # Another process was quicker, or a small database was busy.
                pause(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311
                continue
            if found is None:
                raise RoutingError("R803", f"all {self._nodes} nodes of {self._name!r} are leased")
            return found
        raise RoutingError("R803", f"no node of {self._name!r} could be leased")

    def _explain(self, error: Exception) -> None:
        if isinstance(error, sa_exc.IntegrityError):
            return
        if not inspect(self._engine()).has_table(TABLE.name):
            what = "the table router_nodes is not there"
            raise RoutingError("R805", what) from error

    def _renewed(self, connection: Connection, millisecond: int) -> Reservation | None:
        if not self._owner:
            return None
        mine = self._own(self._node, self._owner)
        row = connection.execute(select(TABLE.c.ceiling).where(*mine).with_for_update()).first()
        if row is None:
            return None
        return self._write(connection, self._node, self._owner, millisecond, row.ceiling)

    def _leased(self, connection: Connection, millisecond: int) -> Reservation | None:
        """Take over the first node whose lease has expired, else the first that no one had."""
        now = int(connection.scalar(text(_NOW[connection.dialect.name])) or 0)
        rows = connection.execute(
            select(TABLE).where(TABLE.c.name == self._name).order_by(TABLE.c.node)
        ).all()
        owner = uuid4().hex
        for row in rows:
            if row.expires < now and row.node < self._nodes:
                taken = self._own(row.node, row.owner)
                found = connection.execute(TABLE.update().where(*taken).values(owner=owner))
                if found.rowcount == 1:
                    locked = select(TABLE.c.ceiling).where(*self._own(row.node, owner))
                    ceiling = connection.scalar(locked.with_for_update()) or 0
                    return self._write(connection, row.node, owner, millisecond, ceiling)
        free = next((n for n in range(self._nodes) if n not in {row.node for row in rows}), None)
        if free is None:
            return None
        values = {"name": self._name, "node": free, "owner": owner, "ceiling": 0, "expires": 0}
        connection.execute(TABLE.insert(), values)
        return self._write(connection, free, owner, millisecond, 0)

    def _write(
        self, connection: Connection, node: int, owner: str, millisecond: int, ceiling: int
    ) -> Reservation:
        first = max(millisecond, ceiling + 1)
        last = first + self._window * 1000
        now = int(connection.scalar(text(_NOW[connection.dialect.name])) or 0)
        # Twice as long as the window, so that a clock that runs fast does not lose its node.
        values = {"ceiling": last, "expires": now + 2 * self._window}
        connection.execute(TABLE.update().where(*self._own(node, owner)).values(values))
        self._node, self._owner = node, owner
        return Reservation(node, first, last)

    def _own(self, node: int, owner: str) -> tuple[ColumnElement[bool], ...]:
        return (TABLE.c.name == self._name, TABLE.c.node == node, TABLE.c.owner == owner)
