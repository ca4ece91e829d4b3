"""Opening and releasing the connections of one transaction side by side.

SQLAlchemy connects, begins and enlists in one guarded step, which no second greenlet may
enter.  Here connecting and beginning come first, and only enlisting is guarded.
Leans on `SessionTransaction._connection_for_bind`, to which a bind is whatever has a
`connect()` and may return a connection in a transaction, and on `._connections` with its
tuples of connection, transaction, whether it ends here and whether it is closed; on
`Session.join_transaction_mode`, `.execution_options` and `.dispatch`.  Checked against 2.0.40
and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.util import EMPTY_DICT

from router.hooks.colour import settle, taking_turns
from router.hooks.driver import connect, is_beside_others, opens_below_asyncio
from router.lanes.lane import current_lane

Enlist = Callable[[Any, Any], Connection]
Begun = Callable[[Connection], None]


class Entry(NamedTuple):
    """A connection of a session's transaction, and what has to be ended there."""

    connection: Connection
    transaction: Any
    ends_here: bool
    closes: bool


class _Opened:
    """Stands for an engine of which a connection is open, and in its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connect(self) -> Connection:
        """Return the connection."""
        return self._connection


def opens_first(engine: Engine) -> bool:
    """Return whether a connection is opened before the session is told to enlist it."""
    return is_beside_others() or opens_below_asyncio(engine)


def enlist_opened(
    transaction: Any, engine: Engine, options: Any, begun: Begun | None, enlist: Enlist
) -> Connection:
    """Connect and begin while others go on, then `enlist` the connection."""
    with _turn(transaction, engine):
        if engine in transaction._connections:
            return enlist(engine, options)
        connection = _open(transaction.session, engine, options, begun)
        with _or_closed(connection, transaction._connections), _alone(transaction):
            return _enlist(transaction, connection, enlist)


def enlist_begun(
    transaction: Any, engine: Engine, options: Any, begun: Begun, enlist: Enlist
) -> Connection:
    """Connect, begin and let `begun` see the connection before the session does."""
    connection = _open(transaction.session, engine, options, begun)
    with _or_closed(connection, transaction._connections):
        return _enlist(transaction, connection, enlist)


def enlist_in_savepoint(
    transaction: Any, engine: Engine, options: Any, enlist: Enlist
) -> Connection:
    """Enlist in the transaction around a savepoint while others go on, then in it."""
    with _turn(transaction, engine):
        if engine in transaction._connections:
            return enlist(engine, options)
        transaction._parent._connection_for_bind(engine, options)
        with _alone(transaction):
            return enlist(engine, None)


def after_others(transaction: Any, enlist: Callable[[], Connection]) -> Connection:
    """Enlist when no other task does."""
    with _alone(transaction):
        return enlist()


def open_beside(
    session: Any, engine: Engine, suits: Callable[[Connection], bool]
) -> Connection | None:
    """Connect and begin as the session would, without its knowing; None if nothing `suits`."""
    connection = connect(engine)
    with _or_closed(connection):
        if suits(connection):
            return _begun(session, connection, None)
    connection.close()
    return None


def tell_begun(session: Any, transaction: Any, connection: Connection) -> None:
    """Call the handlers of ``after_begin``, as for a connection that the session has begun on."""
    session.dispatch.after_begin(session, transaction, connection)


def _open(session: Any, engine: Engine, options: Any, begun: Begun | None) -> Connection:
    connection = connect(engine)
    with _or_closed(connection):
        begun_on = _begun(session, connection, options)
        if begun is not None:
            begun(begun_on)
    return begun_on


def _enlist(transaction: Any, connection: Connection, enlist: Enlist) -> Connection:
    with _as_begun(transaction.session):
        return enlist(_Opened(connection), None)


@contextmanager
def _or_closed(connection: Connection, enlisted: Container[object] = ()) -> Iterator[None]:
    """Close a connection if the session does not come to know it, which would close it."""
    try:
        yield
    except BaseException:
        if connection not in enlisted:
            settle(connection.close)
        raise


def _begun(session: Any, connection: Connection, options: Any) -> Connection:
    given = {**(getattr(session, "execution_options", None) or {}), **(options or {})}
    if given:
        connection = connection.execution_options(**given)
    connection.begin()
    return connection


def _turn(transaction: Any, engine: Engine) -> AbstractContextManager[None]:
    lane = current_lane()
    return lane.hold(engine) if lane is not None else taking_turns(transaction.turns, engine)


def _alone(transaction: Any) -> AbstractContextManager[None]:
    lane = current_lane()
    return lane.alone() if lane is not None else taking_turns(transaction.turns, None)


@contextmanager
def _as_begun(session: Any) -> Iterator[None]:
    """Let the session take over a connection with its options and its transaction."""
    # The options have been applied, and some cannot be once a transaction has begun.
    attributes: dict[str, Any] = {"join_transaction_mode": "control_fully"}
    if getattr(session, "execution_options", None):
        attributes["execution_options"] = EMPTY_DICT
    before = {name: getattr(session, name) for name in attributes}
    session.__dict__.update(attributes)
    try:
        yield
    finally:
        session.__dict__.update(before)


# -- the end -----------------------------------------------------------------------------------


def entries(transaction: Any) -> list[Entry]:
    """Return every connection of `transaction`."""
    # A connection stands there twice: by itself and by its engine.
    return [Entry(*one) for one in dict.fromkeys(transaction._connections.values())]


def forget(transaction: Any, entry: Entry) -> None:
    """Let `transaction` no longer know of a connection that has ended."""
    for key in (entry.connection, entry.connection.engine):
        transaction._connections.pop(key, None)


def forget_ended(transaction: Any) -> None:
    """Let a savepoint no longer know of connections where it has ended."""
    for entry in entries(transaction):
        if not entry.transaction.is_active:
            forget(transaction, entry)


def endings(transaction: Any, end: Callable[[Any, bool], None]) -> list[Callable[[], None]]:
    """Return the calls that `end`, release and forget each connection of `transaction`."""
    return [partial(_end, transaction, end, entry) for entry in entries(transaction)]


def roll_back(transaction: Any, ends_here: bool) -> None:
    """Roll back one database's transaction."""
    del ends_here
    transaction.rollback()


def close(transaction: Any, ends_here: bool) -> None:
    """End one database's transaction, if it is still open and ours."""
    if ends_here and transaction.is_active:
        transaction.close()


def _end(session_transaction: Any, end: Callable[[Any, bool], None], entry: Entry) -> None:
    try:
        end(entry.transaction, entry.ends_here)
    finally:
        # What comes of it: the connection is released, or cut, or nothing can be done any more.
        forget(session_transaction, entry)
        if entry.closes:
            entry.connection.close()
