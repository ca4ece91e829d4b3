"""What would keep commits over several databases from being atomic, or from ending."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from router.errors import Problem
from router.session.branches import can_prepare
from router.session.wiring import Wiring
from router.transaction.log import NAME as LOG
from router.transaction.log import identity_of

_NOT_DURABLE: Mapping[str, Mapping[str, str]] = {
    "postgresql": {"fsync = off": "SELECT current_setting('fsync') = 'off'"},
    "mysql": {
        "innodb_flush_log_at_trx_commit": "SELECT @@innodb_flush_log_at_trx_commit <> 1",
        "sync_binlog": "SELECT @@log_bin = 1 AND @@sync_binlog <> 1",
    },
}
"""Dialect: a setting, and the query whether it loses commits when the server crashes."""


_NEEDED: Mapping[str, str] = {
    "write its decision log": f"INSERT INTO {LOG} SELECT * FROM {LOG} WHERE 1 = 0",
    "delete from its decision log": f"DELETE FROM {LOG} WHERE 1 = 0",
}
_NEEDED_BY_MYSQL: Mapping[str, str] = {
    "change its decision log": f"UPDATE {LOG} SET verdict = verdict WHERE 1 = 0",
    "list prepared branches": "XA RECOVER",
}
"""What recovery does, and a statement that shows whether it may, and changes nothing."""


def commit_findings(name: str, connection: Connection, wiring: Wiring) -> Iterator[Problem]:
    """Yield what is wrong with one database that commits together with others."""
    if not wiring.shard_map.two_phase or len(wiring.shard_map.databases) < 2:
        return
    where = wiring.shard_map.databases[name].where
    if identity_of(connection) is None:
        yield Problem("R711", f"database {name} has no decision log", where)
    else:
        yield from _privileges(name, connection, where)
    dialect = connection.dialect.name.replace("mariadb", "mysql")
    for setting, query in _NOT_DURABLE.get(dialect, {}).items():
        if connection.exec_driver_sql(query).scalar():
            what = f"database {name} can lose what it has committed: {setting}"
            yield Problem("R712", what, where)
    if dialect == "postgresql":
        yield from _postgresql(name, connection, where)


def _privileges(name: str, connection: Connection, where: str) -> Iterator[Problem]:
    is_mysql = connection.dialect.name in ("mysql", "mariadb")
    for what, statement in {**_NEEDED, **(_NEEDED_BY_MYSQL if is_mysql else {})}.items():
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(statement).close()
        except DBAPIError:
            yield Problem("R714", f"the role of database {name} may not {what}", where)


def _postgresql(name: str, connection: Connection, where: str) -> Iterator[Problem]:
    def setting(what: str) -> str:
        return str(connection.exec_driver_sql(f"SHOW {what}").scalar())

    if setting("max_prepared_transactions") == "0":
        what = f"database {name} has max_prepared_transactions = 0: no two-phase commit can succeed"
        yield Problem("R704", what, where)
    if setting("idle_in_transaction_session_timeout") == "0":
        what = f"database {name} lets sessions be idle in a transaction for ever"
        yield Problem("R713", what, where)


def map_findings(wiring: Wiring) -> Iterator[Problem]:
    """Yield what is wrong with commits by the map alone."""
    shard_map = wiring.shard_map
    if len(shard_map.databases) < 2:
        return
    if not shard_map.two_phase:
        what = "`two_phase: false`: databases commit one after another, and not atomically"
        yield Problem("R707", what, shard_map.source)
        return
    unable = [name for name in shard_map.databases if not can_prepare(wiring.engines[name])]
    if len(unable) > 1:
        what = f"{', '.join(unable)} cannot be prepared, so a transaction may write to one of them"
        yield Problem("R708", what, shard_map.source)
