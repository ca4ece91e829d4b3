"""MySQL and MariaDB: an XA branch that was not prepared commits in one phase.

SQLAlchemy prepares it first, which costs a round trip and fails with error 1402 where
the branch only read.  Leans on `Dialect.do_commit_twophase`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text


def commit_in_one_phase(dialect: Any) -> None:
    """Give a MySQL or MariaDB `dialect` a commit of unprepared branches in one phase."""
    if dialect.name not in ("mysql", "mariadb"):
        return
    prepared_commit = dialect.do_commit_twophase

    def do_commit_twophase(
        connection: Any, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> None:
        if is_prepared:
            prepared_commit(connection, xid, is_prepared, recover)
            return
        connection.execute(text("XA END :xid"), {"xid": xid})
        connection.execute(text("XA COMMIT :xid ONE PHASE"), {"xid": xid})

    dialect.do_commit_twophase = do_commit_twophase
