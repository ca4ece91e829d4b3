"""MySQL and MariaDB: ending an XA branch that was not prepared.

SQLAlchemy prepares it before it commits, which costs a round trip and fails with error 1402
where the branch only read; and its rollback fails where preparing had failed half-way.
Leans on `Dialect.do_commit_twophase` and `.do_rollback_twophase`.  Checked against 2.0.40
and 2.1.9.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc as sa_exc
from sqlalchemy import text

_END = text("XA END :xid")
_COMMIT = text("XA COMMIT :xid ONE PHASE")
_ROLLBACK = text("XA ROLLBACK :xid")


def commit_in_one_phase(dialect: Any) -> None:
    """Give a MySQL or MariaDB `dialect` one-phase ends of unprepared branches."""
    if dialect.name not in ("mysql", "mariadb"):
        return
    commit, rollback = dialect.do_commit_twophase, dialect.do_rollback_twophase

    def do_commit_twophase(
        connection: Any, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> None:
        if is_prepared:
            commit(connection, xid, is_prepared, recover)
            return
        connection.execute(_END, {"xid": xid})
        connection.execute(_COMMIT, {"xid": xid})

    def do_rollback_twophase(
        connection: Any, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> None:
        if is_prepared:
            rollback(connection, xid, is_prepared, recover)
            return
        try:
            connection.execute(_END, {"xid": xid})
        except sa_exc.DBAPIError:
            # It has ended already, or a deadlock has made it one that can only be rolled back.
            if connection.invalidated:
                raise
        connection.execute(_ROLLBACK, {"xid": xid})

    dialect.do_commit_twophase = do_commit_twophase
    dialect.do_rollback_twophase = do_rollback_twophase
