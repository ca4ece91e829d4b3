"""Statements on the shards and on one database with the same rows, compared.

::

    oracle = Oracle(router, create_engine("sqlite://"))
    oracle.fill()
    oracle.assert_same(select(Order).order_by(Order.total).limit(10))

The comparison is strict: names of columns, types, scales of decimals, signs of zeros, the
order of sorted rows.  Where a database may choose, among ties of an ORDER BY, rows of a LIMIT
or equal values of a GROUP BY, whatever one database could have answered is right.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Query, Session, sessionmaker

from router.errors import RouterError
from router.testing import merged, ranks
from router.testing.answers import Answer, Judge, answer_of

TextKey = Callable[[str], Hashable]
Sessions = Callable[[], Session]


class Outcome(Enum):
    """How the shards compare with one database."""

    EQUAL = "equal"
    REFUSED = "refused"
    INVALID = "invalid"
    WRONG = "wrong"
    ERROR = "error"


@dataclass(frozen=True)
class Comparison:
    """What came of one statement; `str` of it explains everything needed to look into it."""

    outcome: Outcome
    sql: str
    params: Any
    reason: str = ""
    expected: Sequence[Any] = field(default=(), repr=False)
    got: Sequence[Any] = field(default=(), repr=False)
    error: BaseException | None = None

    def __str__(self) -> str:
        lines = [f"{self.outcome.value}: {self.reason}", self.sql, f"parameters: {self.params}"]
        if self.outcome is Outcome.WRONG:
            lines += [f"one database ({len(self.expected)} rows):", *map(repr, self.expected[:20])]
            lines += [f"the shards ({len(self.got)} rows):", *map(repr, self.got[:20])]
        return "\n".join(lines)


class Oracle:
    """Compares a router with one database that has the same rows.

    Parameters
    ----------
    router:
        The router whose answers are in question.
    engine:
        An engine of one database of the same dialect; its tables are made by `fill`.
    text_key:
        Gives two texts the same value where the database's collation takes them for equal.
        By default only equal texts are equal; MySQL and MariaDB are asked.
    sessions:
        Makes the sessions that are asked; by default, ``router.sessionmaker()`` does.
    """

    def __init__(
        self,
        router: Any,
        engine: Engine,
        *,
        text_key: TextKey | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self.router = router
        self.engine = engine
        self._text_key = text_key or self._default_text_key()
        self._known: frozenset[Hashable] = frozenset()
        self._sessions: Sessions = sessions or router.sessionmaker()
        self._plain = sessionmaker(engine)
        self._shared: dict[Sessions, Session] = {}

    def fill(self) -> dict[str, int]:
        """Copy all rows from the shards to the one database; return how many, by table."""
        counts = merged.fill(self.router, self.engine)
        self._known = merged.values(self.router, self.engine)
        return counts

    def assert_same(
        self, statement: Any, params: Any = None, *, touch: Sequence[str] = ()
    ) -> Comparison:
        """Raise `AssertionError` unless the shards answer as one database does."""
        found = self.compare(statement, params, touch=touch)
        if found.outcome is not Outcome.EQUAL:
            raise AssertionError(str(found)) from found.error
        return found

    def compare(
        self, statement: Any, params: Any = None, *, touch: Sequence[str] = ()
    ) -> Comparison:
        """Run `statement`, a `Select` or a legacy `Query`, in both places and compare.

        `touch` names relationships that are then loaded lazily on every object returned.
        """
        ours: Answer | None = None
        theirs: Answer | None = None
        refused: Exception | None = None
        with self._opened(self._plain) as session:
            try:
                theirs = answer_of(session, statement, params, touch)
            except Exception as error:  # noqa: BLE001 - SQLAlchemy itself may fail on a statement
                refused = error
                session.rollback()
        with self._opened(self._sessions) as session:
            try:
                ours = answer_of(session, statement, params, touch)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                session.rollback()
                return self._failed(statement, params, error, refused)
        if refused is not None and not _is_an_answer(refused):
            reason = _first_line(refused)
            return self._comparison(statement, params, Outcome.INVALID, reason, error=refused)
        if theirs is None:
            found = (Outcome.WRONG, f"one database says: {_first_line(refused)}")
            return self._comparison(statement, params, *found, got=ours.shown, error=refused)
        return self._judged(statement, params, theirs, ours)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run the statements of the block in one session: one transaction, until one fails."""
        with self._plain() as plain, self._sessions() as routed:
            self._shared = {self._plain: plain, self._sessions: routed}
            try:
                yield
            finally:
                self._shared = {}

    @contextmanager
    def _opened(self, make: Sessions) -> Iterator[Session]:
        shared = self._shared.get(make)
        if shared is None:
            with make() as session:
                yield session
        else:
            yield shared
            # The objects of one statement are not those of the next.
            shared.expunge_all()

    # -- outcomes ------------------------------------------------------------------------------

    def _failed(
        self, statement: Any, params: Any, error: Exception, refused: BaseException | None
    ) -> Comparison:
        reason, outcome = _first_line(error), Outcome.ERROR
        known = isinstance(error, sa_exc.SQLAlchemyError)
        if refused is not None and (known or type(error) is type(refused)):
            reason, outcome = _first_line(refused), Outcome.INVALID
        elif isinstance(error, RouterError):
            outcome = Outcome.REFUSED
        return self._comparison(statement, params, outcome, reason, error=error)

    def _judged(self, statement: Any, params: Any, theirs: Answer, ours: Answer) -> Comparison:
        judge = Judge(
            statement=getattr(statement, "statement", statement),
            ranked=lambda: self._ranked(statement, params),
            known=self._known,
            text_key=self._text_key,
        )
        reason = judge.difference(theirs, ours)
        outcome = Outcome.WRONG if reason else Outcome.EQUAL
        shown = {"expected": theirs.shown, "got": ours.shown}
        return self._comparison(statement, params, outcome, reason, **shown)

    def _comparison(
        self, statement: Any, params: Any, outcome: Outcome, reason: str, **more: Any
    ) -> Comparison:
        sql, values = _rendered(statement, params, self.engine)
        return Comparison(outcome, sql, values, reason, **more)

    def _ranked(self, statement: Any, params: Any) -> Answer | None:
        asking = None if isinstance(statement, Query) else ranks.ranked(statement)
        if asking is None:
            return None
        with Session(self.engine) as session:
            try:
                return answer_of(session, asking, params)
            except sa_exc.SQLAlchemyError:
                return None

    def _default_text_key(self) -> TextKey:
        if self.engine.dialect.name in {"mysql", "mariadb"}:
            return WeightStrings(self.engine)
        return lambda value: value


class WeightStrings:
    """Asks MySQL or MariaDB what a text weighs in the database's default collation."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._weights: dict[str, Hashable] = {}

    def __call__(self, value: str) -> Hashable:
        """Return the weight of a text."""
        if value not in self._weights:
            with self._engine.connect() as connection:
                collation = connection.scalar(text("SELECT @@collation_database"))
                asked = text(f"SELECT HEX(WEIGHT_STRING(TRIM(:value) COLLATE {collation}))")
                self._weights[value] = connection.scalar(asked, {"value": value})
        return self._weights[value]


def _is_an_answer(error: Exception) -> bool:
    """Return whether `error` is what one database says of a statement.

    Otherwise the database has answered, and SQLAlchemy itself could not read it: by
    `NoSuchColumnError`, for one, of a CAST without a label beside the entity of its column.
    """
    known = isinstance(error, sa_exc.SQLAlchemyError)
    return known and not isinstance(error, sa_exc.NoSuchColumnError)


def _rendered(statement: Any, params: Any, engine: Engine) -> tuple[str, Mapping[str, Any]]:
    statement = getattr(statement, "_resolved", getattr(statement, "statement", statement))
    try:
        compiled = statement.compile(engine)
        given = params if isinstance(params, Mapping) else {}
        return str(compiled), {**compiled.params, **given}
    except sa_exc.SQLAlchemyError as error:
        return f"{type(statement).__name__}: {error}", params or {}


def _first_line(error: BaseException | None) -> str:
    first = str(error).split("\n", maxsplit=1)[0]
    return first if isinstance(error, RouterError) else f"{type(error).__name__}: {first}"
