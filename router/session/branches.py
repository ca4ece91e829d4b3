"""What all sessions of a router know of commits over several databases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine

from router.engines import Engines
from router.hooks import xa
from router.transaction.journal import Journal
from router.transaction.log import Identities
from router.transaction.names import Branch, new_gtid

_PREPARABLE = {"postgresql": ("psycopg",), "mysql": (), "mariadb": ()}
"""Dialect: the drivers whose transactions can be prepared; all of them if none is named."""


class Branches:
    """Begins the branches of transactions where they must be known from the beginning.

    Attributes
    ----------
    identities:
        What databases are called in the names of branches.
    journal:
        What can be deleted from their logs.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._able: dict[str, bool] = {}
        self.identities = Identities()
        self.journal = Journal()

    def can_prepare(self, database: str) -> bool:
        """Return whether a transaction of a database of the map can be prepared."""
        found = self._able.get(database)
        if found is None:
            found = self._able[database] = can_prepare(self._engines[database])
        return found

    def agree(self, engines: Collection[Engine], unable: Sequence[Engine]) -> bool:
        """Return whether the one of `engines` that is unable to be prepared may decide.

        Branches name their decider when they begin; so it is the same one for all of a map.
        """
        if not unable or not any(self.names_decider(one) for one in engines):
            return True
        return self._engines.name_of(unable[0]) == self._unpreparable

    def names_decider(self, engine: Engine) -> bool:
        """Return whether transactions of `engine` must be branches from their beginning."""
        several = len(self._engines) > 1
        return several and engine.dialect.name in ("mysql", "mariadb")

    def start(self, transaction: Any, connection: Connection) -> None:
        """Begin a branch on a connection that the root `transaction` of a session has begun.

        The first such database of a transaction will decide, unless one can do nothing else.
        Without the tables that this needs, the connection stays as it is.
        """
        name = self._engines.name_of(connection.engine)
        own = self._identity(name, connection) if name is not None else None
        if name is None or own is None:
            return
        # Nothing waits between these lines: others may begin a branch at the same time.
        decider = transaction.named or self._unpreparable or name
        identity = self._identity_of(decider)
        if identity is None:
            return
        transaction.named = transaction.named or decider
        transaction.gtid = transaction.gtid or new_gtid()
        if transaction.named != decider:
            identity = self._identity_of(transaction.named)
        branch = Branch(transaction.gtid, str(identity), own)
        xa.start(connection, branch.xid(_connection_id(connection)))

    @cached_property
    def _unpreparable(self) -> str | None:
        """The first database that can be nothing but the decider."""
        return next((name for name in self._engines if not self.can_prepare(name)), None)

    def _identity(self, name: str, connection: Connection) -> str | None:
        found = self.identities.get(name)
        if found is None:
            found = self.identities.read(name, connection)
            # Reading has begun a transaction, in which no branch can begin.
            connection.connection.rollback()
        return found

    def _identity_of(self, name: str) -> str | None:
        found = self.identities.get(name)
        if found is not None:
            return found
        with self._engines[name].connect() as connection:
            return self.identities.read(name, connection)


def can_prepare(engine: Engine) -> bool:
    """Return whether a transaction of `engine` can be prepared for a two-phase commit."""
    drivers = _PREPARABLE.get(engine.dialect.name)
    return drivers is not None and (not drivers or engine.dialect.driver in drivers)


def _connection_id(connection: Connection) -> int:
    raw: Any = connection.connection.driver_connection
    if hasattr(raw, "thread_id"):
        return int(raw.thread_id())
    found = int(connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one())
    connection.connection.rollback()
    return found
