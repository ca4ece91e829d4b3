"""The root transaction of a session: which databases wrote, and how they commit.

Leans on `SessionTransaction._connection_for_bind`, `._prepare_impl`, `.commit`, `._connections`,
`._parent`, `._state`, `._transaction_is_active`, `.declare_states`, `._expect_state` and
`_StateChangeStates`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

from sqlalchemy import Connection, Engine, util
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.orm.state_changes import _StateChangeStates

from router.errors import CrossShardError
from router.hooks.colour import among_tasks, finish, settle
from router.hooks.enlisting import (
    after_others,
    close,
    endings,
    enlist_begun,
    enlist_in_savepoint,
    enlist_opened,
    forget_ended,
    opens_first,
    roll_back,
)

_lent: weakref.WeakSet[Connection] = weakref.WeakSet()


class Beside(Protocol):
    """A connection that a transaction reads on and that takes no part in how it ends."""

    def release(self, invalidate: bool) -> None:
        """Give the connection back; never raise because the server is gone."""
        ...


@contextmanager
def lend(connection: Connection) -> Iterator[None]:
    """Let statements run on `connection` without its taking part in the session's transaction."""
    begin_lending(connection)
    try:
        yield
    finally:
        end_lending(connection)


def begin_lending(connection: Connection) -> None:
    """Let statements run on `connection` until `end_lending`; see `lend`."""
    _lent.add(connection)


def end_lending(connection: Connection) -> None:
    """End what `begin_lending` began."""
    _lent.discard(connection)


class RoutedTransaction(SessionTransaction):
    """Lets its session say how connections begin, and how the whole transaction ends.

    `wrote` holds the engines that were written to, `locks` says whether rows were only locked,
    `confirmed` what directories said, and `torn` the error that left the copies of a reference
    table different.  `gtid` and `named` are what branches that have begun already call the
    transaction and its decider; `ending` is there once the end has begun.

    `beside` holds connections to replicas, by database.  `leads` says that whatever is read
    from now on is read where it is written.  `unproven` names databases where a statement may
    have written that is not known to.
    """

    beside: dict[str, Beside] | None = None
    unproven: set[str]
    leads: bool = False
    _commits: bool = False

    wrote: set[Engine]
    locks: bool
    confirmed: dict[Any, str]
    torn: BaseException | None
    turns: dict[object, Any]
    gtid: str | None
    named: str | None
    ending: Any

    def _connection_for_bind(self, bind: Any, execution_options: Any) -> Connection:
        enlist = super()._connection_for_bind
        # First, since most statements follow others.
        if bind in self._connections:
            if self._is_enlisting_another():
                return after_others(self, partial(enlist, bind, execution_options))
            return enlist(bind, execution_options)
        if bind in _lent:
            return cast(Connection, bind)
        session: Any = self.session
        if self._connections and self._parent is None:
            session._watch_for_deadlocks(self)
        first = isinstance(bind, Engine) and opens_first(bind)
        if self._parent is not None:
            if first:
                return enlist_in_savepoint(self, bind, execution_options, enlist)
            return enlist(bind, execution_options)
        begun = partial(session._begin_branch, self) if session._begins_branch(bind) else None
        if first:
            return enlist_opened(self, bind, execution_options, begun, enlist)
        if begun is None:
            return enlist(bind, execution_options)
        return enlist_begun(self, bind, execution_options, begun, enlist)

    def connection(self, bindkey: Any, execution_options: Any = None, **kw: Any) -> Connection:
        """Return the connection to one database; see `SessionTransaction.connection`."""
        session: Any = self.session
        if not (execution_options or {}).get("unguarded"):
            session._refuse_connection()
        return super().connection(bindkey, execution_options, **kw)

    def _transaction_is_active(self) -> bool:
        return super()._transaction_is_active() or self._is_enlisting_another()

    def _is_enlisting_another(self) -> bool:
        """Return whether a task beside this one is enlisting a connection."""
        state = self._state is SessionTransactionState.PROVISIONING_CONNECTION
        return state and among_tasks.get()

    def enlist(self, engine: Engine) -> None:
        """Let the database of `engine` take part from now on."""
        self._connection_for_bind(engine, None)

    def enlist_at_end(self, engine: Engine) -> None:
        """Let the database of `engine` take part although the end has begun."""
        before, self._state = self._state, SessionTransactionState.ACTIVE
        try:
            self.enlist(engine)
        finally:
            self._state = before

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
        if (self._parent is None and self._is_several()) or self.torn is not None:
            self._prepare_several()

    @SessionTransaction.declare_states(
        (SessionTransactionState.PREPARED,), _StateChangeStates.NO_CHANGE
    )
    def _prepare_several(self) -> None:
        try:
            self._refuse_torn()
            if self._parent is None:
                session: Any = self.session
                self.ending = session._ending(self)
                # Cancelled in the middle, it could leave branches that nobody knows.
                finish(self.ending.prepare)
        except BaseException:  # noqa: BLE001
            with util.safe_reraise(), self._expect_state(SessionTransactionState.CLOSED):
                finish(self.rollback)

    def _refuse_torn(self) -> None:
        if self.torn is not None:
            if isinstance(self.torn, CrossShardError) and self.torn.id == "R311":
                raise self.torn
            what = "a write to a reference table reached only some of its copies"
            raise CrossShardError("R307", what, fix="roll the transaction back") from self.torn

    def rollback(self, _capture_exception: bool = False, _to_root: bool = False) -> None:
        """Roll back; the databases of a whole transaction side by side."""
        error = None
        if self._parent is not None:
            # Of several databases, some may have released it when it failed in another one.
            if self._is_several():
                forget_ended(self)
            self._leave_replicas()
        elif self._is_several() and self.session._transaction is self and self._is_open():
            error = self._end_together(roll_back)
        super().rollback(_capture_exception, _to_root)
        if error is not None:
            raise error

    def close(self, invalidate: bool = False) -> None:
        """Release the connections, side by side."""
        if self._parent is None and (self.beside or self.wrote or self.unproven):
            self._end_reading(invalidate)
        error = None
        if self._parent is None and self._is_several() and not invalidate:
            error = self._end_together(close)
        super().close(invalidate)
        if error is not None:
            raise error

    def commit(self, _to_root: bool = False) -> None:
        """Commit; below asyncio a task that is cancelled then has committed all or nothing."""
        if self._parent is not None:
            super().commit(_to_root)
            return
        self._commits = True
        if self._state is SessionTransactionState.ACTIVE:
            self._prepare_impl()
        if self.ending is None:
            super().commit(_to_root)
            return
        commit = partial(self._commit_several, partial(super().commit, _to_root))
        if self.ending.is_several:
            finish(commit)
        else:
            commit()

    def _commit_several(self, finish_session: Callable[[], None]) -> None:
        try:
            self.ending.commit()
        except BaseException:  # noqa: BLE001
            with util.safe_reraise():
                self._end_unfinished()
        finish_session()
        self.ending.raise_interrupt()

    def _end_unfinished(self) -> None:
        if self.ending.is_in_doubt:
            # Neither committed nor rolled back: what the session holds is asked for again.
            self.close(invalidate=True)
            self.session.expire_all()
        else:
            self.rollback()

    def _abort(self) -> None:
        if self.ending is not None:
            finish(self.ending.abort)

    def _end_reading(self, invalidate: bool) -> None:
        """Give back what was only read on, and say what was written."""
        session: Any = self.session
        if self.wrote or self.unproven:
            is_known = self._state is SessionTransactionState.COMMITTED or not self._commits
            unresolved = self.ending.unresolved if self.ending is not None else ()
            session._has_written(self.wrote, self.unproven, unresolved, is_known)
        if self.beside:
            calls = [partial(one.release, invalidate) for one in self.beside.values()]
            self.beside = None
            session._end_all(calls)

    def _leave_replicas(self) -> None:
        """Read from primaries from now on, after a savepoint that replicas know nothing of.

        Where a statement has failed, PostgreSQL answers nothing more until the transaction ends.
        """
        root: Any = self.session.get_transaction()
        if root is not None and root.beside:
            root.leads = True

    def is_usable(self) -> bool:
        """Return whether statements can be executed in the transaction now."""
        return self._transaction_is_active()

    def _is_several(self) -> bool:
        # A connection stands there twice: by itself and by its engine.
        return len(self._connections) > 2

    def _is_open(self) -> bool:
        return self._state in (SessionTransactionState.ACTIVE, SessionTransactionState.PREPARED)

    def _end_together(self, end: Callable[[Any, bool], None]) -> BaseException | None:
        """End and release every connection, and forget them; return the first error.

        What is left, after an interruption, is for the caller to end.
        """
        errors = []
        for call in (self._abort, partial(self._end_all, end)):
            try:
                call()
            except BaseException as found:  # noqa: BLE001 - the caller raises it
                errors.append(found)
        return errors[0] if errors else None

    def _end_all(self, end: Callable[[Any, bool], None]) -> None:
        session: Any = self.session
        settle(partial(session._end_all, endings(self, end)))


def adopt(transaction: Any) -> None:
    """Turn a fresh transaction or savepoint into one that routes."""
    transaction.__class__ = RoutedTransaction
    transaction.wrote = set()
    transaction.locks = False
    transaction.confirmed = {}
    transaction.torn = None
    transaction.turns = {}
    transaction.unproven = set()
    transaction.gtid = transaction.named = transaction.ending = None
