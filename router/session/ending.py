"""How a session's transaction ends: who wrote, who decides, and who may end beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from router.errors import CrossShardError
from router.execute.parallel import finish_all
from router.hooks.cancelling import is_idle
from router.hooks.colour import pause
from router.hooks.enlisting import Entry, entries, forget
from router.transaction.coordinator import Coordinator
from router.transaction.fence import patiently
from router.transaction.log import IDENTITY, NAME, is_copy
from router.transaction.names import new_gtid
from router.transaction.participants import (
    MySQL,
    Participant,
    PostgreSQL,
    Preparable,
    refuse_failed,
)
from router.transaction.protocol import State, Verdict

if TYPE_CHECKING:
    from router.session.branches import Branches
    from router.session.routing import Routing

_logger = logging.getLogger("router.transaction")


class Ending:
    """The end of one transaction of a session, from its first moment on.

    Parameters
    ----------
    routing:
        The session's.
    transaction:
        Its root transaction.
    together:
        Whether several databases must commit together or not at all.
    """

    def __init__(self, routing: Routing, transaction: Any, together: bool) -> None:
        self._wiring = routing.wiring
        self._transaction = transaction
        self._branches: Branches = routing.wiring.branches
        found = [one for one in entries(transaction) if one.ends_here]
        order = routing.wiring.ranks
        wrote = {one: self._name(one) for one in found if self._wrote(one)}
        ranked = sorted(wrote.items(), key=lambda one: order.get(one[1], len(order)))
        # Their connections, and what their databases are called.
        self._writers: dict[Entry, str] = dict(ranked)
        self._readers = [one for one in found if one not in wrote]
        self._together = together and len(self._writers) > 1
        self._coordinator: Coordinator | None = None
        self._over: list[Entry] = []

    @property
    def is_several(self) -> bool:
        """Whether several databases were written to."""
        return len(self._writers) > 1

    @property
    def is_in_doubt(self) -> bool:
        """Whether nobody can tell yet how it has ended."""
        return self._coordinator is not None and self._coordinator.state is State.IN_DOUBT

    @property
    def unresolved(self) -> tuple[str, ...]:
        """The names of databases where it is committed, but cannot be seen yet."""
        return self._coordinator.unresolved if self._coordinator is not None else ()

    def prepare(self) -> None:
        """Prepare those who have to commit together; nobody else."""
        if self._together:
            self._coordinator = self._coordinate()
            with self._releasing():
                self._coordinator.prepare()

    def commit(self) -> None:
        """Commit everything, side by side where the order does not matter.

        Locks that were only read for hold until what they guard is committed.
        """
        if self._coordinator is not None:
            with self._releasing():
                self._coordinator.commit()
            self._end_readers(self._readers)
        elif len(self._writers) > 1:
            for one in self._writers:
                self._commit(one)
            self._end_readers(self._readers)
        else:
            self._commit_plainly()

    def abort(self) -> None:
        """Roll back what was prepared, unless it is decided."""
        if self._coordinator is not None:
            with self._releasing():
                self._coordinator.abort()

    def raise_interrupt(self) -> None:
        """Raise what has interrupted a commit that was made all the same."""
        if self._coordinator is not None:
            self._coordinator.raise_interrupt()

    # -- together --------------------------------------------------------------------------

    def _coordinate(self) -> Coordinator:
        decider = self._decider()
        parties = [self._participant(*one) for one in self._writers.items()]
        _refuse_copies(parties)
        first = next(one for one in parties if one.database == decider)
        others = [_preparable(one) for one in parties if one is not first]
        return Coordinator(
            self._transaction.gtid or new_gtid(),
            first,
            others,
            run=finish_all,
            ask=_ask,
            journal=self._branches.journal,
        )

    def _decider(self) -> str:
        """Return the name of the database that decides; it writes from now on."""
        named = self._transaction.named
        names = list(self._writers.values())
        if named is not None and any(_is_xa(one.connection) for one in self._writers):
            if named not in names:
                self._enlist(named)
            return str(named)
        plain = [name for name in names if not self._branches.can_prepare(name)]
        return (plain or names)[0]

    def _enlist(self, name: str) -> None:
        """Have a database decide that was not written to, or not even used."""
        engine = self._wiring.engines[name]
        self._transaction.enlist_at_end(engine)
        found = next(one for one in entries(self._transaction) if one.connection.engine is engine)
        self._readers = [one for one in self._readers if one != found]
        self._writers[found] = name

    def _participant(self, entry: Entry, name: str) -> Participant:
        connection = entry.connection
        if self._branches.identities.get(name) is None:
            refuse_failed(name, connection)
        identity = self._branches.identities.read(name, connection)
        if identity is None:
            what = f"database {name} has no decision log, without which it commits alone"
            raise CrossShardError("R402", what, where=self._wiring.shard_map.databases[name].where)
        able = self._branches.can_prepare(name)
        kind = _KINDS.get(connection.dialect.name, Participant) if able else Participant
        over = partial(self._over.append, entry)
        return kind(name, identity, self._wiring.engines[name], connection, entry.transaction, over)

    @contextmanager
    def _releasing(self) -> Iterator[None]:
        """Give back, at the end, the connections of participants that are over.

        Not before: those that their pool has no room for are closed, and others would wait.
        """
        try:
            yield
        finally:
            while self._over:
                self._release(self._over.pop())

    # -- one by one ------------------------------------------------------------------------

    def _commit_plainly(self) -> None:
        """Commit the only writer, if there is one, and let go of what was only read."""
        beside, after = [], self._readers
        if not self._transaction.locks:
            beside = [one for one in after if one.connection.dialect.name == "postgresql"]
            after = [one for one in after if one not in beside]
        if not self._writers:
            finish_all([partial(self._commit, one) for one in [*beside, *after]])
            return
        writes = [partial(self._commit, one) for one in self._writers]
        finish_all([*writes, *(partial(self._end_reader, one) for one in beside)])
        self._end_readers(after)

    def _commit(self, entry: Entry) -> None:
        name = self._writers.get(entry)
        if name is not None:
            refuse_failed(name, entry.connection)
        entry.transaction.commit()
        self._release(entry)

    def _end_readers(self, readers: Sequence[Entry]) -> None:
        finish_all([partial(self._end_reader, one) for one in readers])

    def _end_reader(self, entry: Entry) -> None:
        # By committing: what functions have written where nothing was known to write stays.
        try:
            entry.transaction.commit()
        except Exception as error:  # noqa: BLE001 - the writers have committed
            name = self._name(entry)
            _logger.warning("a database that was only read, %s: %s", name, type(error).__name__)
            entry.connection.invalidate()
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        forget(self._transaction, entry)
        if entry.closes:
            entry.connection.close()

    # -- facts -----------------------------------------------------------------------------

    def _wrote(self, entry: Entry) -> bool:
        connection = entry.connection
        if connection.engine not in self._transaction.wrote:
            return False
        # What was only going to be written to has not even begun.
        return connection.invalidated or not is_idle(connection.connection.dbapi_connection)

    def _name(self, entry: Entry) -> str:
        return self._wiring.engines.name_of(entry.connection.engine) or ""


_KINDS: dict[str, Callable[..., Participant]] = {
    "postgresql": PostgreSQL,
    "mysql": MySQL,
    "mariadb": MySQL,
}


def _refuse_copies(parties: Sequence[Participant]) -> None:
    """Raise if names of branches could not tell two databases apart."""
    seen: dict[str, Participant] = {}
    for one in parties:
        first = seen.setdefault(one.identity, one)
        if first is not one and is_copy(first.engine, one.engine):
            what = f"databases {first.database} and {one.database} have the same identity"
            fix = f"delete the row `{IDENTITY}` of {NAME} from the one that is a copy: create-all"
            raise CrossShardError("R401", what, fix=f"{fix} gives it its own")


def _preparable(one: Participant) -> Preparable:
    if not isinstance(one, Preparable):
        raise CrossShardError("R401", f"database {one.database} cannot be prepared")
    return one


def _is_xa(connection: Connection) -> bool:
    return connection.dialect.name in ("mysql", "mariadb")


def _ask(decider: Participant, gtid: str) -> Verdict | None:
    return patiently(decider.engine, gtid, pause)
