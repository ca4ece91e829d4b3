"""Asks servers how far they are, and whether they are what the map says."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from router.replicas.positions import Position, of_mariadb, of_mysql, of_postgresql

# After a commit has returned, each is at least the position of that commit: the log of
# PostgreSQL has its record even where nobody waits for the disk (`synchronous_commit=off`).
_OF_PRIMARY = {
    "postgresql": ("SELECT pg_current_wal_insert_lsn()", of_postgresql),
    "mariadb": ("SELECT @@global.gtid_binlog_pos", of_mariadb),
    "mysql": ("SELECT @@global.gtid_executed", of_mysql),
}
# A server that was promoted goes on to say how far it had come: connections live on, while it
# takes writes that nobody else has.  In newer MariaDB, `read_only` is a word.
_GUARDED = "CAST(@@global.read_only AS CHAR) NOT IN ('0', 'OFF')"
_OF_REPLICA = {
    "postgresql": (
        "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END",
        of_postgresql,
    ),
    "mariadb": (f"SELECT CASE WHEN {_GUARDED} THEN @@global.gtid_slave_pos END", of_mariadb),
    "mysql": (f"SELECT CASE WHEN {_GUARDED} THEN @@global.gtid_executed END", of_mysql),
}

# Kept with a connection of the driver, for as long as that lives.
_REPLAYED = "router.replayed"


def position_of_primary(connection: Connection) -> Position | None:
    """Return a position that covers every commit so far; None if the server has none."""
    return _position(connection, _OF_PRIMARY)


def position_of_replica(connection: Connection) -> Position | None:
    """Return what the server has replayed; None if it is no replica, or has nothing."""
    position = _position(connection, _OF_REPLICA)
    connection.info[_REPLAYED] = position
    return position


def has_replayed(connection: Connection, wanted: Position) -> bool:
    """Return whether the server is known to have replayed `wanted`, without asking it.

    Known of this very connection: the next one may be to another server at the address.
    """
    known: Position | None = connection.info.get(_REPLAYED)
    return known is not None and known.covers(wanted)


def _position(connection: Connection, queries: Any) -> Position | None:
    found = queries.get(_product(connection))
    if found is None:
        return None
    query, read = found
    text = connection.exec_driver_sql(query).scalar()
    # What is read next must not be as old as this answer.
    connection.rollback()
    position: Position | None = read(text)
    return position


def _product(connection: Connection) -> str:
    dialect: Any = connection.dialect
    return "mariadb" if getattr(dialect, "is_mariadb", False) else str(dialect.name)


def why_no_replica(connection: Connection) -> str | None:
    """Return why what answers is no replica, None if it is one or nobody can tell."""
    product = _product(connection)
    if product == "postgresql":
        replays = bool(connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar())
        return None if replays else "it is not in recovery"
    if product in ("mariadb", "mysql"):
        guarded = bool(connection.exec_driver_sql(f"SELECT {_GUARDED}").scalar())
        return None if guarded else "it is not read_only"
    return None


def same_cluster(connection: Connection) -> object:
    """Return what a server has in common with its copies alone; None if nobody can tell."""
    if _product(connection) != "postgresql":
        return None
    query = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
    return connection.exec_driver_sql(query).scalar()
