"""The root transaction of a session: which databases wrote, and how they commit.

Leans on `SessionTransaction._connection_for_bind`, `._prepare_impl`, `.commit`, `._connections`,
`._parent`, `._state`, `.declare_states`, `_StateChangeStates` and `Session.twophase`.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from sqlalchemy import Connection, Engine, Transaction, util
from sqlalchemy.engine import TwoPhaseTransaction
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.orm.state_changes import _StateChangeStates

from router.errors import CrossShardError
from router.hooks.colour import finish, in_greenlet
from router.hooks.enlisting import (
    close,
    endings,
    enlist_in_savepoint,
    enlist_opened,
    opens_first,
    roll_back,
)

_PSYCOPG_INERROR = 3

_lent: weakref.WeakSet[Connection] = weakref.WeakSet()


@contextmanager
def lend(connection: Connection) -> Iterator[None]:
    """Let statements run on `connection` without its taking part in the session's transaction."""
    _lent.add(connection)
    try:
        yield
    finally:
        _lent.discard(connection)


class RoutedTransaction(SessionTransaction):
    """Begins two-phase where the session asks for it; prepares only several writers.

    `wrote` holds the engines that were written to, `confirmed` what directories said, and
    `torn` the error that left the copies of a reference table different.
    """

    wrote: set[Engine]
    confirmed: dict[Any, str]
    torn: BaseException | None
    turns: dict[object, Any]

    def _connection_for_bind(self, bind: Any, execution_options: Any) -> Connection:
        if _lent and bind in _lent:
            return cast(Connection, bind)
        session: Any = self.session
        enlist = super()._connection_for_bind
        if bind in self._connections:
            return enlist(bind, execution_options)
        first = isinstance(bind, Engine) and opens_first(bind)
        if self._parent is not None:
            if first:
                return enlist_in_savepoint(self, bind, execution_options, enlist)
            return enlist(bind, execution_options)
        if first:
            two_phase = session._begins_two_phase(bind)
            return enlist_opened(self, bind, execution_options, two_phase, enlist)
        session.twophase = session._begins_two_phase(bind)
        try:
            return enlist(bind, execution_options)
        finally:
            session.twophase = False

    def has_connection(self, engine: Engine) -> bool:
        """Return whether the transaction has begun in the database of `engine`."""
        return engine in self._connections

    def prepare(self) -> None:
        """Prepare every database that wrote, for a commit that follows."""
        session: Any = self.session
        if self._parent is not None or not session._is_two_phase:
            # Which raises.
            super().prepare()
        self._prepare_impl()

    def _prepare_impl(self) -> None:
        super()._prepare_impl()
        if self._is_several() or self.torn is not None:
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
                finish(self.rollback)

    def _refuse_torn(self) -> None:
        if self.torn is not None:
            if isinstance(self.torn, CrossShardError) and self.torn.id == "R311":
                raise self.torn
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
        # As long as nothing is committed, a reader that fails can still stop everything.
        session._end_all([partial(self._end_reader, *reader) for reader in readers])

    def rollback(self, _capture_exception: bool = False, _to_root: bool = False) -> None:
        """Roll back; the databases of a whole transaction side by side."""
        error = None
        if self._is_several() and self.session._transaction is self and self._is_open():
            error = self._end_together(roll_back)
        super().rollback(_capture_exception, _to_root)
        if error is not None:
            raise error

    def close(self, invalidate: bool = False) -> None:
        """Release the connections, side by side."""
        error = None
        if self._is_several() and not invalidate:
            error = self._end_together(close)
        super().close(invalidate)
        if error is not None:
            raise error

    def commit(self, _to_root: bool = False) -> None:
        """Commit; below asyncio a task that is cancelled then has committed all or nothing."""
        if self._parent is not None or not in_greenlet():
            super().commit(_to_root)
            return
        if self._state is SessionTransactionState.ACTIVE:
            self._prepare_impl()
        commit = partial(super().commit, _to_root)
        if len(self.wrote) > 1:
            finish(commit)
        else:
            commit()

    def _is_several(self) -> bool:
        # A connection stands there twice: by itself and by its engine.
        return self._parent is None and len(self._connections) > 2

    def _is_open(self) -> bool:
        return self._state in (SessionTransactionState.ACTIVE, SessionTransactionState.PREPARED)

    def _end_together(self, end: Callable[[Any, bool], None]) -> Exception | None:
        """End and release every connection, and forget them; return the first error."""
        session: Any = self.session
        error = None
        try:
            session._end_all(endings(self, end))
        except Exception as found:  # noqa: BLE001 - the caller raises it
            error = found
        self._connections.clear()
        return error

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
        # Cancelled in the middle, it could leave a prepared transaction that nobody knows.
        finish(transaction.prepare)
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
    transaction.turns = {}
