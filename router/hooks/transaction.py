"""The root transaction of a session: which databases wrote, and how they commit.

Leans on `SessionTransaction._connection_for_bind`, `._prepare_impl`, `._connections`,
`._parent` and `Session.twophase`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, util
from sqlalchemy.engine import TwoPhaseTransaction
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.orm.session import SessionTransactionState


class RoutedTransaction(SessionTransaction):
    """Begins two-phase where the session asks for it; prepares only several writers."""

    wrote: set[Engine]

    def _connection_for_bind(self, bind: Any, execution_options: Any) -> Connection:
        session: Any = self.session
        if self._parent is not None or bind in self._connections:
            return super()._connection_for_bind(bind, execution_options)
        session.twophase = session._begins_two_phase(bind)
        try:
            return super()._connection_for_bind(bind, execution_options)
        finally:
            session.twophase = False

    def prepare(self) -> None:
        """Prepare every database that wrote, for a commit that follows."""
        self._prepare_impl()

    @SessionTransaction.declare_states(
        (SessionTransactionState.ACTIVE,), SessionTransactionState.PREPARED
    )
    def _prepare_impl(self) -> None:
        with self._expect_state(SessionTransactionState.PREPARED):
            super()._prepare_impl()
        if self._parent is not None:
            return
        writers = self._writers()
        if len(writers) < 2:
            return
        try:
            for transaction in writers:
                transaction.prepare()
        except:  # noqa: E722 -- whatever it is, it is raised again
            with util.safe_reraise(), self._expect_state(SessionTransactionState.CLOSED):
                self.rollback()

    def _writers(self) -> list[TwoPhaseTransaction]:
        found = {
            id(entry[1]): entry[1]
            for entry in self._connections.values()
            if entry[0].engine in self.wrote and isinstance(entry[1], TwoPhaseTransaction)
        }
        return list(found.values())


def adopt(begun: SessionTransaction) -> SessionTransaction:
    """Turn a fresh root transaction into one that routes."""
    if type(begun) is SessionTransaction:
        transaction: Any = begun
        transaction.__class__ = RoutedTransaction
        transaction.wrote = set()
    return begun
