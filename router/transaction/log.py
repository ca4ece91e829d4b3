"""The table in which deciders record what was decided, and databases who they are.

::

    router_commit_log (gtid, verdict, participants, created), primary key (gtid)

`verdict` is C or A; `participants` are the identities of the branches.  A row of gtid
``identity`` and verdict I holds the identity of its own database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    delete,
    select,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from router.hooks.cancelling import is_idle
from router.hooks.sending import Steps, sending
from router.transaction.names import new_identity
from router.transaction.protocol import Verdict

NAME = "router_commit_log"
IDENTITY = "identity"

_DELETED_AT_ONCE = 500
# Not granted, and no savepoint where every statement commits itself.
_NOT_FOR_US = (1142, 1305)


def _ascii(length: int) -> TypeEngine[str]:
    exact = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


LOG = Table(
    NAME,
    MetaData(),
    Column("gtid", _ascii(32), primary_key=True),
    Column("verdict", _ascii(1), nullable=False),
    Column("participants", Text, nullable=False),
    Column(
        "created",
        DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"),
        nullable=False,
    ),
)

NOW: Mapping[str, str] = {
    # Not now(), which is when the transaction began.
    "postgresql": "clock_timestamp()",
    "mysql": "utc_timestamp(6)",
    "mariadb": "utc_timestamp(6)",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
}

_INSERT = f"INSERT INTO {NAME} (gtid, verdict, participants, created) VALUES "
# A decision that a crash could undo is none: the others would have committed.
_DURABLY: Mapping[str, str] = {
    "postgresql": "CASE WHEN current_setting('synchronous_commit') <> 'off' "
    "OR set_config('synchronous_commit', 'on', true) = 'on' THEN '{}' END"
}
# InnoDB shows a commit a moment before it is on disk; a later one that writes takes it along.
_TOUCH = f"UPDATE {NAME} SET created = created + INTERVAL 1 MICROSECOND WHERE gtid = "
_LASTING: Mapping[str, str] = {"mysql": _TOUCH, "mariadb": _TOUCH}


def create(engine: Engine) -> None:
    """Create the table in a database, and give it its identity, unless they are there."""
    LOG.create(engine, checkfirst=True)
    with engine.connect() as connection:
        if read_identity(connection) is not None:
            return
    try:
        with engine.begin() as connection:
            _write(connection, IDENTITY, "I", new_identity())
    except sa_exc.IntegrityError:
        # Somebody else was first.
        return


def read_identity(connection: Connection) -> str | None:
    """Return the identity of a database; None if the table does not have it."""
    query = select(LOG.c.participants).where(LOG.c.gtid == IDENTITY)
    found: str | None = connection.scalar(query)
    return found


def recording(connection: Connection, gtid: str, participants: Iterable[str]) -> Steps:
    """Write, in the transaction of the decider, that its commit commits all `participants`."""
    row = gtid, Verdict.COMMIT.value, ",".join(participants)
    if connection.in_transaction() and not is_idle(connection.connection.dbapi_connection):
        yield from sending(connection, _insertion(connection.dialect.name, *row))
    else:
        # The driver alone would not begin one.
        _write(connection, *row)


def record_abort(connection: Connection, gtid: str) -> None:
    """Write that a transaction must never be committed.

    Waits as long as its decider's transaction is in flight.

    Raises
    ------
    sqlalchemy.exc.IntegrityError
        There is a verdict.
    """
    _write(connection, gtid, Verdict.ABORT.value, "")


def read_verdict(connection: Connection, gtid: str) -> Verdict | None:
    """Return the verdict on a transaction; None if there is none.

    It can be followed when the transaction of `connection` has been committed.
    """
    lasting = _LASTING.get(connection.dialect.name)
    if lasting is not None:
        connection.exec_driver_sql(f"{lasting}'{gtid}'")
    found = connection.scalar(select(LOG.c.verdict).where(LOG.c.gtid == gtid))
    return Verdict(found) if found is not None else None


def forget(connection: Connection, gtids: Iterable[str]) -> None:
    """Delete the rows of transactions that nobody will ask for."""
    names = sorted(gtids)
    for start in range(0, len(names), _DELETED_AT_ONCE):
        some = names[start : start + _DELETED_AT_ONCE]
        connection.execute(delete(LOG).where(LOG.c.gtid.in_(some)))


def _write(connection: Connection, gtid: str, verdict: str, participants: str) -> None:
    statement = _insertion(connection.dialect.name, gtid, verdict, participants)
    connection.exec_driver_sql(statement)


def _insertion(dialect: str, gtid: str, verdict: str, participants: str) -> str:
    # Names are made of digits and letters; there is nothing to quote.
    now = NOW.get(dialect, "CURRENT_TIMESTAMP")
    written = _DURABLY.get(dialect, "'{}'").format(verdict)
    return f"{_INSERT}('{gtid}', {written}, '{participants}', {now})"


def identity_of(connection: Connection) -> str | None:
    """Return the identity of a database, None if it has no log; a transaction stays usable."""
    try:
        with connection.begin_nested():
            return read_identity(connection)
    except (sa_exc.ProgrammingError, sa_exc.OperationalError) as error:
        if connection.invalidated or not _is_missing(error):
            raise
        return None


def _is_missing(error: sa_exc.DBAPIError) -> bool:
    """Return whether there is no table for us; one that is locked is there."""
    if isinstance(error, sa_exc.ProgrammingError):
        return True
    arguments = getattr(error.orig, "args", None) or (None,)
    return arguments[0] in _NOT_FOR_US or "no such table" in str(error.orig)


def is_copy(one: Engine, other: Engine) -> bool:
    """Return whether two databases of one identity are not the same, but copies."""
    places = [(url.host, url.port, url.database) for url in (one.url, other.url)]
    return places[0] != places[1]


class Identities:
    """The identities of a map's databases by name, each read once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lock = Lock()

    def get(self, database: str) -> str | None:
        """Return the identity of a database, None as long as it has not been read."""
        return self._known.get(database)

    def read(self, database: str, connection: Connection) -> str | None:
        """Return the identity of a database, None if it has no log."""
        found = self._known.get(database)
        if found is not None:
            return found
        found = identity_of(connection)
        if found is not None:
            with self._lock:
                self._known[database] = found
        return found
