"""Has the protocol followed: by the participants of one transaction, side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial

from sqlalchemy.exc import StatementError

from router.errors import TransactionInDoubtError
from router.hooks.sending import Steps, at_once, sends_ahead, side_by_side
from router.transaction import probes, protocol
from router.transaction.journal import Journal
from router.transaction.names import Branch
from router.transaction.participants import Participant, Preparable
from router.transaction.protocol import Act, Answers, Deed, Round, State, Verdict

Run = Callable[[Sequence[Callable[[], None]]], None]
"""Makes calls side by side and returns when all have ended."""

_logger = logging.getLogger("router.transaction")


class Coordinator:
    """Commits the participants of one transaction all together, or none.

    Parameters
    ----------
    gtid:
        The transaction's name.
    decider:
        The one whose commit decides.
    others:
        Everybody else who wrote.
    run:
        Makes calls side by side.
    ask:
        Asks a decider for its verdict on a transaction.
    journal:
        What is to be deleted from logs.
    """

    def __init__(
        self,
        gtid: str,
        decider: Participant,
        others: Sequence[Preparable],
        *,
        run: Run,
        ask: Callable[[Participant, str], Verdict | None],
        journal: Journal,
    ) -> None:
        self.gtid = gtid
        self.state = State.ACTIVE
        # The databases whose branches are committed later, by recovery.
        self.unresolved: tuple[str, ...] = ()
        self._decider = decider
        self._others = {one.database: one for one in others}
        self._all: dict[str, Participant] = {decider.database: decider, **self._others}
        self._send_ahead = all(sends_ahead(one.connection) for one in self._all.values())
        names = tuple(self._others)
        self._parties = protocol.Parties(decider.database, names, decider.records_first)
        self._run = run
        self._ask = ask
        self._journal = journal
        self._interrupt: BaseException | None = None

    # -- what a session does ---------------------------------------------------------------

    def prepare(self) -> None:
        """Prepare all but the decider, who records what its commit will mean.

        Raises what went wrong first, when everything has been rolled back.
        """
        self.state = State.PREPARING
        self._follow(protocol.preparing(self._parties))
        self.state = State.PREPARED

    def commit(self) -> None:
        """Commit what is prepared.

        Raises
        ------
        TransactionInDoubtError
            Nobody can tell yet whether it is committed; nothing is touched.
        BaseException
            What went wrong, when everything has been rolled back.
        """
        self.state = State.DECIDING
        self._follow(protocol.deciding(self._parties))
        self.state = State.DECIDED
        unresolved = protocol.follow(protocol.finishing(self._parties), self._perform)
        if unresolved:
            self.unresolved = tuple(database for database, _ in unresolved)
            self._abandon(self.unresolved)
            self._warn(unresolved)
        else:
            self.state = State.RESOLVED
            self._journal.served(self._parties.decider, self.gtid)

    def abort(self) -> None:
        """Roll back everybody; only as long as nothing is decided."""
        if self.state is not State.PREPARED:
            return
        self.state = State.ABORTED
        everybody = (self._parties.decider, *self._parties.others)
        protocol.follow(protocol.aborting(everybody), self._perform)
        self._leave_nothing()

    def raise_interrupt(self) -> None:
        """Raise what has interrupted a commit that was made all the same."""
        if self._interrupt is not None:
            raise self._interrupt

    def _follow(self, steps: protocol.Protocol[None]) -> None:
        try:
            protocol.follow(steps, self._perform)
        except protocol.AbortedError as aborted:
            self.state = State.ABORTED
            self._leave_nothing()
            cause = aborted.__cause__ or aborted
            raise cause from cause.__cause__
        except protocol.InDoubtError as doubt:
            self.state = State.IN_DOUBT
            self._abandon(self._others)
            known = {self._parties.decider: "no answer"} | dict.fromkeys(self._others, "prepared")
            raise TransactionInDoubtError(self.gtid, known) from doubt.__cause__

    # -- acts ------------------------------------------------------------------------------

    def _perform(self, acts: Round) -> Answers:
        answers: dict[Act, BaseException | Verdict | None] = {}
        stopped: BaseException | None = None
        steps = [self._answering(act, answers) for act in acts]
        try:
            if self._send_ahead and acts[0].deed is not Deed.ROLL_BACK:
                side_by_side(steps)
            else:
                self._run([partial(at_once, one) for one in steps])
        except BaseException as error:  # noqa: BLE001 - the protocol says what follows
            stopped = error
            self._note_interrupt(error)
        for act in acts:
            answers.setdefault(act, stopped)
        return answers

    def _answering(self, act: Act, answers: dict[Act, BaseException | Verdict | None]) -> Steps:
        try:
            probes.at(probes.Moment.BEFORE, act)
            value = yield from self._doing(act)
            probes.at(probes.Moment.AFTER, act)
        except GeneratorExit:
            # Somebody else was interrupted.
            raise
        except BaseException as error:  # noqa: BLE001 - the protocol says what follows
            _name(error, act.database)
            self._note_interrupt(error)
            answers[act] = error
        else:
            answers[act] = value

    def _doing(self, act: Act) -> Generator[None, None, Verdict | None]:
        one = self._all[act.database]
        match act.deed:
            case Deed.RECORD:
                others = [other.identity for other in self._others.values()]
                yield from one.recording(self.gtid, others)
            case Deed.PREPARE:
                yield from self._other(act).preparing(self._branch(one))
            case Deed.DECIDE:
                one.decide(self._journal.take(act.database))
            case Deed.ASK:
                # Its own open transaction would be waited for.
                one.end_for_certain()
                return self._ask(one, self.gtid)
            case Deed.COMMIT:
                yield from self._other(act).committing()
            case Deed.ROLL_BACK:
                one.roll_back()
        return None

    def _other(self, act: Act) -> Preparable:
        return self._others[act.database]

    def _branch(self, one: Participant) -> Branch:
        return Branch(self.gtid, self._decider.identity, one.identity)

    # -- what is told ----------------------------------------------------------------------

    def _note_interrupt(self, error: BaseException) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._interrupt = error

    def _warn(self, unresolved: Sequence[tuple[str, BaseException]]) -> None:
        for database, error in unresolved:
            _logger.warning(
                "transaction %s is committed, and its branch in %s waits for recovery: %s",
                self.gtid,
                database,
                type(error).__name__,
            )

    def _abandon(self, databases: Iterable[str]) -> None:
        """Have nothing more done on connections of theirs, not even by accident."""
        for database in databases:
            self._others[database].abandon()

    def _leave_nothing(self) -> None:
        self._decider.end_for_certain()
        self._abandon(self._others)
        for name, one in self._others.items():
            if one.may_dangle:
                what = "transaction %s is rolled back, and its branch in %s may wait for recovery"
                _logger.warning(what, self.gtid, name)


def _name(error: BaseException, database: str) -> None:
    """Let `error` say where it comes from, unless it does."""
    where = f"on database {database}"
    if isinstance(error, StatementError) and not any("database" in one for one in error.detail):
        error.add_detail(where)
    elif where not in getattr(error, "__notes__", ()):
        error.add_note(where)
