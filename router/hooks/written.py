"""One result for a write that was made in several places.

Leans on `_NO_RESULT_METADATA` of `sqlalchemy.engine.cursor` and its `returns_rows`, on what is
public on a `CursorResult` of an INSERT, UPDATE or DELETE, and on `Result._metadata`,
`Result._source_supports_scalars` and `Result._soft_close`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.cursor import _NO_RESULT_METADATA

from router.hooks.results import close_all, merged, rows_of

Positions = Sequence[Sequence[int]]


class Written(IteratorResult[Any]):
    """What a write without RETURNING did, in all places together."""

    returns_rows = False

    def __init__(self, results: Sequence[Any], positions: Positions | None) -> None:
        super().__init__(_NO_RESULT_METADATA, iter(()))
        self._results = results
        self._positions = positions
        self.rowcount = _rowcount(results)

    @property
    def is_insert(self) -> bool:
        """Whether the write was an INSERT."""
        return bool(self._results[0].is_insert)

    @property
    def inserted_primary_key_rows(self) -> list[Any]:
        """The primary keys of the new rows, in the order of the parameters."""
        return _arranged([one.inserted_primary_key_rows for one in self._results], self._positions)

    @property
    def inserted_primary_key(self) -> Any:
        """Raise as SQLAlchemy does where several rows were inserted."""
        return self._results[0].inserted_primary_key

    @property
    def returned_defaults_rows(self) -> list[Any] | None:
        """The values that the databases generated, as far as they were returned."""
        found = [one.returned_defaults_rows for one in self._results]
        return None if None in found else _arranged(found, self._positions)

    def prefetch_cols(self) -> Any:
        """Return the columns whose defaults were computed beforehand."""
        return self._results[0].prefetch_cols()

    def postfetch_cols(self) -> Any:
        """Return the columns whose values only the databases know."""
        return self._results[0].postfetch_cols()

    def supports_sane_rowcount(self) -> bool:
        """Return whether `rowcount` can be relied upon."""
        return all(one.supports_sane_rowcount() for one in self._results)

    def supports_sane_multi_rowcount(self) -> bool:
        """Return whether `rowcount` can be relied upon for several sets of parameters."""
        return all(one.supports_sane_multi_rowcount() for one in self._results)


class Nothing(Written):
    """What an INSERT of no rows did."""

    is_insert = True
    inserted_primary_key_rows: list[Any] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__((), None)


class Counted(Written):
    """What an UPDATE did to so many rows."""

    is_insert = False

    def __init__(self, rowcount: int) -> None:
        super().__init__((), None)
        self.rowcount = rowcount


def written(results: Sequence[Result[Any]], positions: Positions | None = None) -> Result[Any]:
    """Return the results of a write's parts as one.

    Parameters
    ----------
    results:
        What every part gave, in the order of the parts.
    positions:
        Where the rows of every part stood in the parameters; None if they had no order.
    """
    first: Any = results[0]
    if not getattr(first._metadata, "returns_rows", True):
        return Written(results, positions)
    if not first._metadata.keys:
        # What the ORM gives where it tells nothing.
        return first  # type: ignore[no-any-return]
    try:
        found = [list(rows_of(result)) for result in results]
    finally:
        close_all(results)
    rows = _arranged(found, positions)
    width = len(first._metadata.keys)
    whole = merged(results, iter(rows), width, entity=first._source_supports_scalars)
    whole.__dict__["rowcount"] = _rowcount(results)
    return whole


def _rowcount(results: Iterable[Any]) -> int:
    counts = [getattr(one, "rowcount", -1) for one in results]
    return -1 if -1 in counts else sum(counts)


def _arranged(found: Sequence[Sequence[Any]], positions: Positions | None) -> list[Any]:
    """Return the rows of all parts in the order of the parameters, if each gave one row."""
    if positions is None or any(
        len(rows) != len(part) for rows, part in zip(found, positions, strict=True)
    ):
        return [row for rows in found for row in rows]
    placed: Iterator[tuple[int, Any]] = (
        pair
        for rows, part in zip(found, positions, strict=True)
        for pair in zip(part, rows, strict=True)
    )
    return [row for _, row in sorted(placed, key=itemgetter(0))]
