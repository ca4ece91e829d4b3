"""Deleting from decision logs what nobody can ask for any more.

A row that goes too early splits a transaction: see README.md beside this, "Deleting rows".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from router.transaction import log
from router.transaction.protocol import KEEP_SECONDS, Verdict
from router.transaction.reaching import UNREACHABLE, connected, read_committed
from router.transaction.recovery import Survey, look

_OLD: Mapping[str, str] = {
    "postgresql": "created <= clock_timestamp() - make_interval(secs => :keep)",
    "mysql": "created <= utc_timestamp(6) - INTERVAL :keep SECOND",
    "mariadb": "created <= utc_timestamp(6) - INTERVAL :keep SECOND",
    "sqlite": "created <= strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || :keep || ' seconds')",
}
_ROWS = f"SELECT gtid, verdict, participants FROM {log.NAME} WHERE verdict IN ('C', 'A') AND "

# Of a session whose details we may not see, it cannot be told when its transaction began.
_NOBODY_LATE: Mapping[str, str] = {
    "postgresql": (
        " AND (verdict = 'C' OR NOT EXISTS (SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND coalesce(backend_type, 'client backend') = 'client backend'"
        " AND (state IS NULL OR state = 'disabled'"
        " OR xact_start <= created + INTERVAL '1 second')))"
    ),
}


@dataclass(frozen=True, slots=True)
class _Row:
    gtid: str
    verdict: Verdict
    participants: frozenset[str]


def clean(engines: Mapping[str, Engine], keep: float = KEEP_SECONDS) -> int:
    """Delete the rows of all logs that are older than `keep` seconds and have served.

    Returns how many.  Databases that cannot be reached keep what concerns them.
    """
    old = {name: _old_rows(engine, keep) for name, engine in engines.items()}
    if not any(old.values()):
        return 0
    # After the rows were read: what is not listed now was settled, and is not still to come.
    survey = look(engines)
    count = 0
    for name, rows in old.items():
        served = [row.gtid for row in rows if _has_served(row, survey)]
        if served and _delete(engines[name], served):
            count += len(served)
    return count


def _delete(engine: Engine, gtids: list[str]) -> bool:
    def delete(connection: Connection) -> None:
        with connection.begin():
            log.forget(connection, gtids)

    try:
        connected(engine, delete)
    except UNREACHABLE:
        # Lost, or locked by a decider: next time.
        return False
    return True


def _has_served(row: _Row, survey: Survey) -> bool:
    if row.verdict is Verdict.ABORT:
        return True
    unsettled = {one.branch.participant for one in survey.branches if one.branch.gtid == row.gtid}
    return row.participants <= survey.names.keys() - unsettled


def _old_rows(engine: Engine, keep: float) -> list[_Row]:
    dialect = engine.dialect.name
    if dialect not in _OLD:
        return []
    query = text(_ROWS + _OLD[dialect] + _NOBODY_LATE.get(dialect, ""))

    def read(connection: Connection) -> Sequence[Any]:
        if log.identity_of(connection) is None:
            return []
        return connection.execute(query, {"keep": keep}).all()

    try:
        # Of a decision in flight, no branch may be prepared yet.
        rows = connected(engine, read, read_committed(engine))
    except UNREACHABLE:
        return []
    return [
        _Row(gtid, Verdict(verdict), frozenset(filter(None, participants.split(","))))
        for gtid, verdict, participants in rows
    ]
