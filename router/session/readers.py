"""Which statements of one session go to replicas, and to which.

A transaction reads a database from one replica at most.  As soon as it has a connection to the
primary, all its reads of that database go there, so that time never goes backwards for it;
and once it has begun to write, those of all databases do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql.dml import UpdateBase

from router.hooks.colour import pause
from router.hooks.enlisting import open_beside, tell_begun
from router.hooks.loaders import statement_options
from router.hooks.statements import is_opaque, resolved
from router.hooks.transaction import begin_lending, end_lending
from router.replicas import tokens
from router.replicas.asking import has_replayed, position_of_replica
from router.replicas.fleet import Fleet
from router.replicas.positions import UNKNOWN, Gtids, GtidSet, Lsn, Position, Unknown
from router.replicas.roles import Reading, Role
from router.replicas.standing import Member, is_serializable
from router.route.shape import Shape
from router.route.target import Target
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing

POLL_SECONDS = 0.005
"""How often a replica is asked that a read waits for."""

_KINDS: Mapping[str, tuple[type, ...]] = {
    "postgresql": (Lsn, Unknown),
    "mysql": (Gtids, GtidSet, Unknown),
    "mariadb": (Gtids, GtidSet, Unknown),
    "sqlite": (Unknown,),
}


class Reader:
    """A replica's connection, which one transaction reads on; it never takes part in a commit."""

    def __init__(self, member: Member, connection: Connection) -> None:
        self.member = member
        self.connection = connection
        self.has_answered = False
        begin_lending(connection)

    def release(self, invalidate: bool = False) -> None:
        """Give the connection back, dead or alive."""
        end_lending(self.connection)
        # There is nothing to lose but the connection.
        with suppress(sa_exc.SQLAlchemyError):
            if invalidate:
                self.connection.invalidate()
            self.connection.close()


class Readers:
    """The reading side of one session over a map with replicas.

    Parameters
    ----------
    routing:
        The session's.
    fleet:
        The replicas of the map.
    """

    def __init__(self, routing: Routing, fleet: Fleet) -> None:
        self._routing = routing
        self._fleet = fleet
        # What replicas must have replayed, and what was written since that was asked for.
        self._wanted: dict[str, Position] = {}
        self._unsettled: set[str] = set()
        # Replicas whose connections were lost, which are asked once more on other ones.
        self._again: dict[str, Member] = {}
        # For how many seconds a replica is waited for by one who has no time left then.
        self._patience: float | None = None

    # -- statements ------------------------------------------------------------------------

    def judged(
        self, execution: Execution, target: Target, shape: Shape, *, reads: bool
    ) -> Execution:
        """Return the execution with whether it may go to a replica; note the first write."""
        statement = resolved(execution.statement)
        role = self._role(statement, execution.options)
        writes = shape.locks or shape.writes or isinstance(statement, UpdateBase)
        declared = role is Role.REPLICA and not writes
        if reads and not shape.writes:
            if not shape.is_harmless:
                # A function that is not known may write, and its session has to see that.
                root = self._routing.session._routed_transaction()
                root.unproven.update(one.database for one in target.destinations)
            may = declared or (role is None and shape.is_harmless and not shape.locks)
            return execution.reading_as(Reading.PROVEN) if may else execution
        if declared and is_opaque(statement):
            return execution.reading_as(Reading.DECLARED)
        self.lead()
        return execution

    def at_once(
        self, database: str, shape: Shape, statement: Any, options: Mapping[str, Any]
    ) -> tuple[str, Reading] | None:
        """Return how a query may be read that goes on where its transaction reads; else None."""
        root: Any = self._routing.session.get_transaction()
        if root is None or not root.beside or not shape.is_harmless:
            return None
        reader = root.beside.get(database)
        if reader is None or not reader.has_answered or self._role(statement, options) is not None:
            return None
        return database, Reading.PROVEN

    def _role(self, statement: Any, options: Mapping[str, Any]) -> Role | None:
        named = options.get("role") or statement_options(statement).get("role")
        if named is None:
            given = getattr(self._routing.session, "execution_options", None)
            named = given.get("role") if given else None
        return Role.named(named) if named is not None else self._routing.pins.role

    def lead(self) -> None:
        """Let the transaction read from primaries from now on: it writes, or is about to."""
        self._routing.session._routed_transaction().leads = True

    def read(
        self,
        place: tuple[str, Reading],
        call: Callable[..., Any],
        arguments: Mapping[str, Any],
        seconds: float | None,
    ) -> Any:
        """Make `call` where a database is read; again, if a replica turns out to be gone.

        A replica is left alone that has not answered in the `seconds` that shards have.
        """
        database = place[0]
        # A little of their time was gone when this began.
        self._patience = None if seconds is None else 0.9 * seconds
        tried: list[Member] = []
        started = time.monotonic()
        while True:
            try:
                result = call(bind_arguments={**arguments, "reading": place})
            except sa_exc.DBAPIError as error:
                if not self._gives_way(database, error, tried):
                    raise
            except BaseException as error:
                self._give_up(database, error, time.monotonic() - started)
                raise
            else:
                reader = self._chosen().get(database)
                if reader is not None:
                    reader.has_answered = True
                return result

    def _give_up(self, database: str, error: BaseException, seconds: float) -> None:
        """Take note of a replica that has taken all the time it had."""
        reader = self._chosen().get(database)
        if reader is not None and self._patience is not None and seconds >= self._patience:
            self._fleet.standings[database].failed(reader.member, error)

    def _gives_way(self, database: str, error: sa_exc.DBAPIError, tried: list[Member]) -> bool:
        """Let go of a replica that was lost before it has answered anything."""
        reader = self._chosen().get(database)
        if reader is None or reader.has_answered or not reader.connection.invalidated:
            return False
        del self._chosen()[database]
        reader.release()
        # The first time it may only have been the connection that was gone.
        if reader.member in tried:
            self._fleet.standings[database].failed(reader.member, error)
        else:
            self._again[database] = reader.member
            tried.append(reader.member)
        return True

    # -- connections -----------------------------------------------------------------------

    def bind(self, database: str, reading: Reading) -> Engine | Connection:
        """Return what a statement that may go to a replica of `database` is executed on."""
        reader = self._reader(database)
        if reader is not None:
            return reader.connection
        if reading is Reading.DECLARED:
            # Where it could write, it is treated as all that cannot be seen through.
            self._routing.writes.note(database)
        return self._routing.wiring.engines[database]

    def connection(self, database: str) -> Connection:
        """Return the connection on which `database` is read in this transaction."""
        reader = self._reader(database)
        if reader is not None:
            return reader.connection
        return self._routing.session._connection_to(database)

    def _reader(self, database: str) -> Reader | None:
        if database not in self._fleet or self._fleet.standings[database].is_serializable:
            return None
        session = self._routing.session
        root = session._routed_transaction()
        if root.leads or root.wrote or not self._is_usable(root):
            return None
        if root.has_connection(self._routing.wiring.engines[database]):
            return None
        found = self._chosen().get(database)
        return found if found is not None else self._choose(database)

    def _is_usable(self, root: Any) -> bool:
        session = self._routing.session
        innermost: Any = session.get_nested_transaction() or root
        usable: bool = innermost.is_usable()
        given = getattr(session, "execution_options", None) or {}
        return usable and not is_serializable(given.get("isolation_level"))

    def _chosen(self) -> dict[str, Reader]:
        root = self._routing.session._routed_transaction()
        if root.beside is None:
            root.beside = {}
        chosen: dict[str, Reader] = root.beside
        return chosen

    def _choose(self, database: str) -> Reader | None:
        """Open a connection to a replica; None if the primary has to answer."""
        wanted = self._wanted_of(database)
        if wanted is UNKNOWN:
            return None
        standing = self._fleet.standings[database]
        deadline = standing.clock() + standing.settings.wait
        again = self._again.pop(database, None)
        for member in [again] if again else self._fleet.candidates(database, self._patience):
            reader = self._attempt(database, member, wanted, deadline)
            if reader is not None:
                return reader
        return self._choose(database) if again else None

    def _attempt(
        self, database: str, member: Member, wanted: Position | None, deadline: float
    ) -> Reader | None:
        """Open a connection to a replica, perhaps in place of one that has died in its pool."""
        standing = self._fleet.standings[database]
        for is_last in (False, True):
            try:
                with standing.noticing(member, self._patience):
                    return self._open(database, member, wanted, deadline)
            except sa_exc.DBAPIError as error:
                if not _is_lost(error):
                    raise
                if is_last or not error.connection_invalidated:
                    standing.failed(member, error)
                    break
        return None

    def _open(
        self, database: str, member: Member, wanted: Position | None, deadline: float
    ) -> Reader | None:
        session = self._routing.session

        def suits(connection: Connection) -> bool:
            return self._has_reached(database, member, connection, wanted, deadline)

        connection = open_beside(session, self._fleet.engine(database, member), suits)
        if connection is None:
            return None
        standing = self._fleet.standings[database]
        standing.answered(member)
        reader = self._chosen()[database] = Reader(member, connection)
        root = session._routed_transaction()
        try:
            tell_begun(session, root, connection)
        except BaseException:
            self._chosen().pop(database, None)
            reader.release()
            raise
        return reader

    def _has_reached(
        self,
        database: str,
        member: Member,
        connection: Connection,
        wanted: Position | None,
        deadline: float,
    ) -> bool:
        """Wait until a replica has replayed what is wanted; return whether it has."""
        if wanted is None or has_replayed(connection, wanted):
            return True
        standing = self._fleet.standings[database]
        while True:
            standing.note(member, position_of_replica(connection))
            if has_replayed(connection, wanted):
                return True
            left = deadline - standing.clock()
            if left <= 0:
                return False
            pause(min(POLL_SECONDS, left))

    # -- what has to be seen ---------------------------------------------------------------

    def written(
        self, engines: Iterable[Engine], unproven: Iterable[str], unknown: Iterable[str] | None
    ) -> None:
        """Remember that a transaction which may have written has ended.

        Parameters
        ----------
        engines:
            Those of the databases that it wrote to.
        unproven:
            The names of those where it may have.
        unknown:
            The names of those where it may still be committed; None for all.
        """
        name_of = self._routing.wiring.engines.name_of
        names = {*map(name_of, engines), *unproven}
        later = names if unknown is None else set(unknown)
        for name in self._fleet.standings:
            if name in later:
                # Nobody can say when.
                self._wanted[name] = UNKNOWN
            elif name in names:
                self._unsettled.add(name)

    def _wanted_of(self, database: str) -> Position | None:
        """Return what a replica of `database` must have replayed; None if anything will do.

        The position is taken when it is needed, after the commit: it covers the commit.
        """
        if database in self._unsettled:
            self._want(database, self._fleet.position(database) or UNKNOWN)
            self._unsettled.discard(database)
        return self._wanted.get(database)

    def _want(self, database: str, position: Position) -> None:
        known = self._wanted.get(database)
        self._wanted[database] = position if known is None else known.joined(position)

    def token(self) -> str | None:
        """Return what another session has to be given in order to see what this one has."""
        gone = {}
        for database in sorted(self._unsettled):
            try:
                self._wanted_of(database)
            except sa_exc.DBAPIError:
                # The commit has been made; who reads after it asks the primary.
                gone[database] = UNKNOWN
        return tokens.written({**self._wanted, **gone})

    def after(self, token: str) -> None:
        """Let only replicas be read that have replayed what `token` says."""
        wiring = self._routing.wiring
        given = tokens.read(token)
        known = {name: one for name, one in given.items() if name in wiring.shard_map.databases}
        for name, position in known.items():
            if not isinstance(position, _KINDS[wiring.backend(name)]):
                raise tokens.foreign(name)
        for name, position in known.items():
            self._want(name, position)
        root = self._routing.session.get_transaction()
        if root is not None and getattr(root, "beside", None):
            # What was read so far may be older.
            self.lead()


def _is_lost(error: sa_exc.DBAPIError) -> bool:
    """Return whether an error says that a server is gone, rather than that it refuses."""
    return error.connection_invalidated or isinstance(error, sa_exc.OperationalError)
