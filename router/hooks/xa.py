"""MySQL and MariaDB: a branch of XA ends where the transaction of its connection does.

A transaction there can be prepared only if it has begun as a branch.  SQLAlchemy does not know
of it; so COMMIT and ROLLBACK of the connection become what the branch needs, in one phase
unless it was prepared.
Leans on `Dialect.do_commit` and `.do_rollback`, which are given a pooled connection with the
`info` of its driver connection.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Connection

from router.errors import RouterError
from router.hooks.sending import at_once, sending

_KEY = "router_xa"


class Stage(Enum):
    """How far a branch has got."""

    ACTIVE = "takes statements"
    ENDED = "takes no more statements"
    PREPARED = "waits for the decision"
    SETTLED = "is over"


@dataclass(slots=True)
class Xa:
    """The branch of a connection, and its name as SQL."""

    name: str
    stage: Stage = Stage.ACTIVE


def start(connection: Connection, name: str) -> None:
    """Begin a branch on a connection that has executed nothing in its transaction."""
    at_once(sending(connection, f"XA START {name}"))
    connection.info[_KEY] = Xa(name)


def branch_of(connection: Connection) -> Xa | None:
    """Return the branch of a connection, if it has one."""
    found: Xa | None = connection.info.get(_KEY)
    return found


def end(connection: Connection, xa: Xa) -> None:
    """Let the branch take no more statements."""
    at_once(sending(connection, f"XA END {xa.name}"))
    xa.stage = Stage.ENDED


def install(dialect: Any) -> None:
    """Let transactions of a MySQL or MariaDB `dialect` end as their branches have to."""
    if dialect.name in ("mysql", "mariadb"):
        dialect.do_commit = _ending(dialect.do_commit, _commit)
        dialect.do_rollback = _ending(dialect.do_rollback, _roll_back)


def _ending(
    method: Callable[[Any], None], end_branch: Callable[[Any, Xa], None]
) -> Callable[[Any], None]:
    def call(connection: Any) -> None:
        xa = _info(connection).pop(_KEY, None)
        if xa is None:
            method(connection)
        else:
            end_branch(connection, xa)

    # By which lanes tell calls apart.
    call.__name__ = method.__name__
    return call


def _info(connection: Any) -> Any:
    try:
        return connection.info
    except NotImplementedError:
        # The very first one of an engine, which is in no pool yet.
        return {}


def _commit(connection: Any, xa: Xa) -> None:
    if xa.stage is Stage.PREPARED:
        raise _undecided(connection, xa)
    if xa.stage is Stage.ACTIVE:
        _send(connection, f"XA END {xa.name}")
    if xa.stage is not Stage.SETTLED:
        _send(connection, f"XA COMMIT {xa.name} ONE PHASE")


def _roll_back(connection: Any, xa: Xa) -> None:
    if xa.stage is Stage.PREPARED:
        raise _undecided(connection, xa)
    if xa.stage is Stage.SETTLED:
        return
    if xa.stage is Stage.ACTIVE:
        # Fails where a deadlock has made it a branch that can only be rolled back; if the
        # connection is lost, what comes next says so.
        with contextlib.suppress(Exception):
            _send(connection, f"XA END {xa.name}")
    _send(connection, f"XA ROLLBACK {xa.name}")


def _undecided(connection: Any, xa: Xa) -> RouterError:
    error = RouterError("R411", f"the branch {xa.name} is prepared and not decided")
    # Nobody else can use the connection; the branch stays for recovery.
    connection.invalidate(error)
    return error


def _send(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
    finally:
        cursor.close()
