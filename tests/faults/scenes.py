"""What goes wrong on purpose, at a step of a commit made in this process or by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from router import Router
from router.transaction import fence as fences
from router.transaction import log
from router.transaction.names import Branch
from router.transaction.probes import Moment
from router.transaction.protocol import Act, Deed
from tests.faults.ledger import entries, total
from tests.support.databases import query


class BrokenError(Exception):
    """What a step is made to fail with."""


class At:
    """A probe that makes a call the first time that a step is reached."""

    def __init__(self, moment: Moment, deed: Deed, call: Callable[[], object]) -> None:
        self._step = (moment, deed)
        self._call = call
        self.done = False

    def __call__(self, moment: Moment, act: Act) -> None:
        """Make the call when it is time."""
        if not self.done and (moment, act.deed) == self._step:
            self.done = True
            self._call()


def breaks_commits(moment: Moment, act: Act) -> None:
    """Let nobody be committed who was prepared: a probe."""
    if (moment, act.deed) == (Moment.BEFORE, Deed.COMMIT):
        raise BrokenError


def is_whole(router: Router) -> bool:
    """Return whether all databases have the same entries, and their balances add up."""
    found = entries(router)
    return found == [found[0]] * len(found) and total(router) == 0


def ask_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a question to a decider that is in flight wait for a moment only."""
    mysql = "SET SESSION innodb_lock_wait_timeout = 1"
    limits = {
        "postgresql": "SET LOCAL lock_timeout = '200ms'",
        "mysql": mysql,
        "mariadb": mysql,
        "sqlite": "PRAGMA busy_timeout = 200",
    }
    monkeypatch.setattr(fences, "_LIMITS", limits)


def identities(router: Router) -> list[str]:
    """Return what the databases are called in the names of branches."""
    asked = f"SELECT participants FROM {log.NAME} WHERE gtid = 'identity'"
    return [str(query(engine.url, asked)[0][0]) for engine in router.engines.values()]


@contextmanager
def prepared_by_hand(url: str, branch: Branch | str, statement: str) -> Iterator[int]:
    """Prepare a branch and stay connected; yield the id of the connection.

    A name instead of a branch is prepared as it is.
    """
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    connection = engine.connect()
    try:
        number, steps = _steps(connection, branch, statement)
        for step in steps:
            connection.exec_driver_sql(step)
        yield number
    finally:
        # Without a word, which a branch of XA would not take.
        connection.invalidate()
        connection.close()


def _steps(
    connection: Connection, branch: Branch | str, statement: str
) -> tuple[int, Sequence[str]]:
    if connection.dialect.name == "postgresql":
        name = branch if isinstance(branch, str) else f"'{branch.gid}'"
        return 0, ["BEGIN", statement, f"PREPARE TRANSACTION {name}"]
    number = int(connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one())
    name = branch if isinstance(branch, str) else branch.xid(number)
    return number, [f"XA START {name}", statement, f"XA END {name}", f"XA PREPARE {name}"]


def prepare_by_hand(url: str, branch: Branch | str, statement: str) -> None:
    """Prepare a branch and disconnect."""
    with prepared_by_hand(url, branch, statement):
        pass
