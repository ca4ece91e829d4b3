"""One database in one commit: what can be done to it, by dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc

from router.errors import CrossShardError
from router.hooks import xa
from router.hooks.cancelling import has_failed
from router.hooks.sending import Steps, at_once, sending
from router.transaction import log
from router.transaction.listing import prepared
from router.transaction.names import Branch
from router.transaction.refusals import XAER_NOTA, code_of, is_gone


class Participant:
    """A connection in its transaction.  Of this kind it can be the decider, and nothing else.

    Parameters
    ----------
    database, identity:
        Its name in the map, and in the names of branches.
    engine:
        Where other connections to it come from.
    connection, transaction:
        What the session has begun.
    over:
        Is called when nothing is left to do on the connection.
    """

    records_first = True
    """Whether no branch may be prepared before this decider has recorded its decision."""

    def __init__(
        self,
        database: str,
        identity: str,
        engine: Engine,
        connection: Connection,
        transaction: Any,
        over: Callable[[], None],
    ) -> None:
        self.database = database
        self.identity = identity
        self.engine = engine
        self.connection = connection
        self._transaction = transaction
        self._over = over
        self._ended = False

    def recording(self, gtid: str, participants: Collection[str]) -> Steps:
        """Write what the commit of this transaction will mean."""
        return log.recording(self.connection, gtid, participants)

    def decide(self, gone: Collection[str]) -> None:
        """Commit; afterwards delete the rows of transactions that are `gone` from the log.

        Whatever goes wrong, the transaction has ended when this raises: it is committed, or
        never will be.
        """
        try:
            refuse_failed(self.database, self.connection)
            self._transaction.commit()
        except BaseException:
            self.end_for_certain()
            raise
        self._forget(gone)
        self._finish()

    def roll_back(self) -> None:
        """Roll back."""
        try:
            self._transaction.rollback()
        except BaseException:
            self.abandon()
            raise
        self._finish()

    def abandon(self) -> None:
        """Cut the connection: the server rolls back what is not prepared, and nothing else.

        Does nothing where everything has been done.
        """
        if not self._ended:
            self.connection.invalidate()
            self._finish()

    def _finish(self) -> None:
        self._ended = True
        self._over()

    def end_for_certain(self) -> None:
        """End the transaction of a decider, committed or not, before anybody is asked."""
        if self._ended:
            return
        try:
            if not self.connection.invalidated:
                self.connection.dialect.do_rollback(self.connection.connection)
        except Exception:  # noqa: BLE001 - without its connection the server rolls back
            self.connection.invalidate()
        finally:
            self._finish()

    def _forget(self, gone: Collection[str]) -> None:
        if not gone:
            return
        try:
            with self.connection.begin():
                log.forget(self.connection, gone)
        except Exception:  # noqa: BLE001 - the rows stay for recovery, and the commit stands
            self.connection.invalidate()


class Preparable(Participant, ABC):
    """A participant that can also be prepared, and then committed or rolled back."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._prepared: Branch | None = None
        self._unknown = False

    @property
    def may_dangle(self) -> bool:
        """Whether it may be prepared and not settled."""
        return self._unknown or self._prepared is not None

    def preparing(self, branch: Branch) -> Steps:
        """Prepare the transaction as `branch`.

        Raises
        ------
        CrossShardError
            A statement has failed in it.
        """
        # Until an answer is there, nobody knows.
        self._unknown = True
        try:
            yield from self._preparing(branch)
        except (sa_exc.DBAPIError, CrossShardError):
            self._unknown = self.connection.invalidated
            raise
        self._prepared, self._unknown = branch, False

    def committing(self) -> Steps:
        """Commit what is prepared; if that fails, leave it as it is."""
        if self._prepared is None:
            raise RuntimeError(f"{self.database} is not prepared")
        try:
            yield from self._committing(self._prepared)
            self._transaction.commit()
        except BaseException:
            self.abandon()
            raise
        self._prepared = None
        self._finish()

    def roll_back(self) -> None:
        """Roll back, prepared or not; what cannot be reached is left for recovery."""
        if self._unknown or self.connection.invalidated:
            self.abandon()
            return
        try:
            if self._prepared is not None:
                at_once(self._rolling_back(self._prepared))
                self._prepared = None
        except BaseException:
            self.abandon()
            raise
        super().roll_back()

    @abstractmethod
    def _preparing(self, branch: Branch) -> Steps: ...

    @abstractmethod
    def _committing(self, branch: Branch) -> Steps: ...

    @abstractmethod
    def _rolling_back(self, branch: Branch) -> Steps: ...


class PostgreSQL(Preparable):
    """A transaction there can be prepared whenever it has come so far."""

    # What was recorded to stop a decider that is late stays as long as it could come.
    records_first = False

    def recording(self, gtid: str, participants: Collection[str]) -> Steps:
        """Write what the commit of this transaction will mean."""
        refuse_failed(self.database, self.connection)
        yield from super().recording(gtid, participants)

    def _preparing(self, branch: Branch) -> Steps:
        refuse_failed(self.database, self.connection)
        return sending(self.connection, f"PREPARE TRANSACTION '{branch.gid}'")

    def _committing(self, branch: Branch) -> Steps:
        return self._outside(f"COMMIT PREPARED '{branch.gid}'")

    def _rolling_back(self, branch: Branch) -> Steps:
        return self._outside(f"ROLLBACK PREPARED '{branch.gid}'")

    def _outside(self, statement: str) -> Steps:
        """Execute what must not be in a transaction; preparing has left the one we were in."""
        try:
            yield from sending(self.connection, statement)
        except sa_exc.DBAPIError as error:
            # Recovery was faster.
            if not is_gone(error):
                raise


class MySQL(Preparable):
    """A transaction of MySQL or MariaDB that has begun as a branch of XA."""

    @property
    def _xa(self) -> xa.Xa:
        found = xa.branch_of(self.connection)
        if found is None:
            raise failed(self.database)
        return found

    def recording(self, gtid: str, participants: Collection[str]) -> Steps:
        """Write what the commit of this transaction will mean."""
        yield from super().recording(gtid, participants)
        xa.end(self.connection, self._xa)

    def _preparing(self, branch: Branch) -> Steps:
        branch_of_ours = self._xa
        xa.end(self.connection, branch_of_ours)
        yield from sending(self.connection, f"XA PREPARE {branch_of_ours.name}")
        branch_of_ours.stage = xa.Stage.PREPARED

    def _committing(self, branch: Branch) -> Steps:
        return self._settling("XA COMMIT", branch)

    def _rolling_back(self, branch: Branch) -> Steps:
        return self._settling("XA ROLLBACK", branch)

    def _settling(self, verb: str, branch: Branch) -> Steps:
        ours = self._xa
        try:
            yield from sending(self.connection, f"{verb} {ours.name}")
        except sa_exc.DBAPIError as error:
            if not is_gone(error) and not self._is_unlisted(error, branch):
                raise
        ours.stage = xa.Stage.SETTLED

    def _is_unlisted(self, error: sa_exc.DBAPIError, branch: Branch) -> bool:
        """Return whether others were faster; that there is no branch is also said meanwhile."""
        if code_of(error) != XAER_NOTA:
            return False
        return all(one.branch != branch for one in prepared(self.connection))


def refuse_failed(database: str, connection: Connection) -> None:
    """Raise if a statement has failed in the transaction of `connection`.

    PostgreSQL answers both COMMIT and PREPARE TRANSACTION with a rollback then, and no error.
    Its driver knows after each statement; so nothing has to be asked.
    """
    if not connection.invalidated and has_failed(connection.connection.dbapi_connection):
        raise failed(database)


def failed(database: str) -> CrossShardError:
    """Return the error for a database whose transaction can only be rolled back."""
    what = f"a statement failed in database {database}, whose transaction can only be rolled back"
    return CrossShardError("R403", what)
