"""Two answers to one statement, and what makes them differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Row
from sqlalchemy.orm import Query, Session

from router.testing import ranks
from router.testing.frozen import Freezer, Frozen

Loosen = Callable[[Frozen], Frozen]
"""Gives one value to what may stand for each other."""


@dataclass(frozen=True)
class Answer:
    """The rows of a statement: to compare, and to show."""

    keys: tuple[str, ...]
    rows: Sequence[Frozen]
    shown: Sequence[Any]
    twins: Sequence[str]


def answer_of(
    session: Session, statement: Any, params: Any = None, touch: Sequence[str] = ()
) -> Answer:
    """Execute `statement` and freeze its rows, with their relationships `touch` loaded."""
    keys, rows = _fetched(session, statement, params)
    for row in rows:
        for value in row:
            for name in touch:
                getattr(value, name, None)
    freezer = Freezer()
    frozen = [freezer.row(row) for row in rows]
    return Answer(keys, frozen, rows if not touch else frozen, freezer.twins)


def _fetched(session: Session, statement: Any, params: Any) -> tuple[tuple[str, ...], list[Any]]:
    if isinstance(statement, Query):
        query = statement.with_session(session)
        found = (query.params(**params) if params else query).all()
        rows = [row if isinstance(row, Row) else (row,) for row in found]
        return tuple(one["name"] for one in statement.column_descriptions), rows
    result = session.execute(statement, params)
    keys = tuple(result.keys())
    try:
        return keys, [*result.all()]
    except sa_exc.InvalidRequestError as error:
        # Eager loads of collections ask for it.
        if "unique()" not in str(error):
            raise
    return keys, [*session.execute(statement, params).unique().all()]


@dataclass(frozen=True)
class Judge:
    """Knows what else one database could have answered.

    Parameters
    ----------
    statement:
        What both were asked.
    ranked:
        Gives all rows of the statement with their ranks, or None.
    known:
        The values in the tables: what a database may choose from.
    text_key:
        Gives equal texts the same value.
    """

    statement: Any
    ranked: Callable[[], Answer | None]
    known: frozenset[Hashable]
    text_key: Callable[[str], Hashable]

    def difference(self, theirs: Answer, ours: Answer) -> str:
        """Return what is wrong with `ours`, empty where nothing is."""
        if theirs.keys != ours.keys:
            return f"columns are {ours.keys} instead of {theirs.keys}"
        if ours.twins and not theirs.twins:
            return ours.twins[0]
        if theirs.rows == ours.rows:
            return ""
        if len(theirs.rows) != len(ours.rows):
            return f"{len(ours.rows)} rows instead of {len(theirs.rows)}"
        wrong = ""
        for loosen in self._looks():
            wrong = self._unlike(theirs, ours, loosen)
            if not wrong:
                break
        return wrong

    def _looks(self) -> Iterator[Loosen]:
        """Yield the ways to look at rows, strictest first."""
        yield _as_is
        if ranks.chooses(self.statement):
            yield self.loose
        if ranks.computes_with_chosen(self.statement):
            yield self.looser

    def _unlike(self, one: Answer, other: Answer, loosen: Loosen) -> str:
        theirs, ours = (list(map(loosen, answer.rows)) for answer in (one, other))
        ordered, limited = ranks.is_sorted(self.statement), ranks.is_limited(self.statement)
        same = Counter(theirs) == Counter(ours)
        if not same and not limited:
            return _missing(theirs, ours)
        if not ordered and not limited:
            return ""
        every = self.ranked()
        if every is None:
            return "" if theirs == ours else "other rows or another order, with ties not known"
        return self._out_of_place(theirs, ours, every, loosen)

    @staticmethod
    def _out_of_place(
        theirs: Sequence[Frozen], ours: Sequence[Frozen], every: Answer, loosen: Loosen
    ) -> str:
        """Check every group of ties on its own: its rows may stand in any order."""
        peers: defaultdict[int, Counter[Frozen]] = defaultdict(Counter)
        of_row: defaultdict[Frozen, set[int]] = defaultdict(set)
        for row in every.rows:
            # The last column: the name of its type, and a number.
            rank = int(row[-1][1])  # type: ignore[index]
            peers[rank][loosen(row[:-1])] += 1
            of_row[loosen(row[:-1])].add(rank)
        places = [*_windows(peers, theirs, of_row)]
        if not places:
            return "" if theirs == ours else "the ties of one database are not as its ranks"
        wrong = [_misplaced(ranks, ours, peers) for ranks in places]
        return "" if "" in wrong else wrong[0]

    def loose(self, row: Frozen) -> Frozen:
        """Return a row with one value for all that a database takes for equal."""
        return tuple(self._loose_value(value) for value in row)

    def looser(self, row: Frozen) -> Frozen:
        """Return a row with one value also for what was computed from any of these."""
        return tuple(self._loosened(value) for value in row)

    def _loose_value(self, value: Any) -> Any:
        return self._loosened(value) if value in self.known else value

    def _loosened(self, value: Any) -> Any:
        name, what = value[0], value[1]
        if name == "Decimal" and Decimal(what).is_finite():
            return name, str(Decimal(what).normalize() + 0)
        if name == "float":
            return name, "0.0" if what == "-0.0" else what
        return (name, "~", self.text_key(what)) if name == "str" else value


def _windows(
    peers: Mapping[int, Counter[Frozen]],
    rows: Sequence[Frozen],
    of_row: Mapping[Frozen, set[int]],
) -> Iterator[list[int]]:
    """Yield the ranks at every place of an answer, for each offset that `rows` can stand at."""
    every = [rank for rank in sorted(peers) for _ in range(peers[rank].total())]
    for offset in range(len(every) - len(rows) + 1):
        window = every[offset : offset + len(rows)]
        if all(rank in of_row.get(row, ()) for rank, row in zip(window, rows, strict=True)):
            yield window


def _misplaced(
    window: Sequence[int], rows: Sequence[Frozen], peers: Mapping[int, Counter[Frozen]]
) -> str:
    """Return which row stands among others than its peers; ties may stand in any order."""
    given: defaultdict[int, Counter[Frozen]] = defaultdict(Counter)
    for place, (rank, row) in enumerate(zip(window, rows, strict=True)):
        given[rank][row] += 1
        if given[rank][row] > peers[rank][row]:
            return f"row {place} is {row}, which does not belong there"
    return ""


def _as_is(row: Frozen) -> Frozen:
    return row


def _missing(theirs: Sequence[Frozen], ours: Sequence[Frozen]) -> str:
    lacking, extra = Counter(theirs) - Counter(ours), Counter(ours) - Counter(theirs)
    return f"{lacking.total()} rows are other ones: {next(iter(extra))}, not {next(iter(lacking))}"
