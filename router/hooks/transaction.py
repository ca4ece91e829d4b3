"""The root transaction of a session: which databases wrote, and how they commit.

Leans on `SessionTransaction._connection_for_bind`, `._prepare_impl`, `._connections`,
`._parent`, `.declare_states`, `_StateChangeStates` and `Session.twophase`.  Checked against
2.0.40 and 2.1.9.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, Transaction, util
from sqlalchemy.engine import TwoPhaseTransaction
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.orm.state_changes import _StateChangeStates

from router.errors import CrossShardError

_PSYCOPG_INERROR = 3


class RoutedTransaction(SessionTransaction):
    """Begins two-phase where the session asks for it; prepares only several writers.

    `wrote` holds the engines that were written to, `confirmed` what directories said, and
    `torn` the error that left the copies of a reference table different.
    """

    wrote: set[Engine]
    confirmed: dict[Any, str]
    torn: BaseException | None

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
        session: Any = self.session
        if self._parent is not None or not session._is_two_phase:
            # Which raises.
            super().prepare()
        self._prepare_impl()

    def _prepare_impl(self) -> None:
        super()._prepare_impl()
        # A connection stands there twice: by itself and by its engine.
        several = self._parent is None and len(self._connections) > 2
        if several or self.torn is not None:
            self._prepare_several()

    @SessionTransaction.declare_states(
        (SessionTransactionState.PREPARED,), _StateChangeStates.NO_CHANGE
    )
    def _prepare_several(self) -> None:
        try:
            self._refuse_torn()
            if self._parent is None:
                self._prepare_writers()
        except BaseException:  # noqa: BLE001
            with util.safe_reraise(), self._expect_state(SessionTransactionState.CLOSED):
                self.rollback()

    def _refuse_torn(self) -> None:
        if self.torn is not None:
            what = "a write to a reference table reached only some of its copies"
            raise CrossShardError("R307", what, fix="roll the transaction back") from self.torn

    def _prepare_writers(self) -> None:
        writers, readers = [], []
        for connection, transaction, ends_here, closes in dict.fromkeys(self._connections.values()):
            if connection.engine in self.wrote:
                writers.append((connection, transaction))
            elif ends_here:
                readers.append((connection, transaction, closes))
        session: Any = self.session
        if len(writers) > 1 and session._is_two_phase:
            for connection, transaction in writers:
                _refuse_broken(connection, transaction)
            for connection, transaction in writers:
                _prepare(connection, transaction)
        if writers:
            # As long as nothing is committed, a reader that fails can still stop everything.
            for reader in readers:
                self._end_reader(*reader)

    def _end_reader(self, connection: Connection, transaction: Any, closes: bool) -> None:
        transaction.commit()
        for key in (connection, connection.engine):
            self._connections.pop(key, None)
        if closes:
            connection.close()


def _refuse_broken(connection: Connection, transaction: Transaction) -> None:
    """Raise for a writer that cannot be prepared, or would be rolled back without an error."""
    name = connection.engine.url.database
    if not isinstance(transaction, TwoPhaseTransaction):
        what = f"{name} was written to on a connection that cannot be prepared"
        raise CrossShardError("R401", what)
    info = getattr(connection.connection.dbapi_connection, "info", None)
    if getattr(info, "transaction_status", None) == _PSYCOPG_INERROR:
        # PostgreSQL answers PREPARE TRANSACTION with a rollback and no error then.
        what = f"a statement failed in {name}, whose transaction can only be rolled back"
        fix = "roll back; let statements that may fail run in session.begin_nested()"
        raise CrossShardError("R401", what, fix=fix)


def _prepare(connection: Connection, transaction: Any) -> None:
    try:
        transaction.prepare()
    except Exception:
        # Drivers take a transaction for prepared before the server says so, and then fail
        # to roll it back; without its connection the server does.
        connection.invalidate()
        raise


def adopt(transaction: Any) -> None:
    """Turn a fresh transaction or savepoint into one that routes."""
    transaction.__class__ = RoutedTransaction
    transaction.wrote = set()
    transaction.confirmed = {}
    transaction.torn = None
