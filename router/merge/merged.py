"""One result out of the results of all shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from sqlalchemy import Result

from router.hooks.results import close_all, gives_scalars, merged, rows_of, width_of
from router.merge.grouped import each_once, grouped
from router.merge.ordered import in_order, row_key
from router.rewrite.decompose import Decomposition

Row = tuple[Any, ...]


def merge(results: Sequence[Result[Any]], decomposition: Decomposition) -> Result[Any]:
    """Return the rows that one database would give, read from the shards as they are asked for.

    Parameters
    ----------
    results:
        What ``decomposition.statement`` gave on every shard, in the order of the map.
    decomposition:
        How to merge it.
    """
    rows = _rows(results, decomposition)
    return merged(results, rows, decomposition.width, entity=decomposition.entity)


def concatenate(results: Sequence[Result[Any]]) -> Result[Any]:
    """Return the rows of one shard after another."""
    rows, first = _rows_in_turn(results), results[0]
    return merged(results, rows, width_of(first), entity=gives_scalars(first))


def _rows_in_turn(results: Sequence[Result[Any]]) -> Iterator[Row]:
    try:
        yield from _chained([rows_of(result) for result in results])
    except GeneratorExit:
        # Only dropped: below asyncio, closing would have to be awaited.
        raise
    except BaseException:
        close_all(results)
        raise
    close_all(results)


def _rows(results: Sequence[Result[Any]], decomposition: Decomposition) -> Iterator[Row]:
    # A generator, so that nothing is read before the first row is asked for.
    width = decomposition.width
    try:
        for row in _page(_all_rows(results, decomposition), decomposition):
            yield row[:width]
    except GeneratorExit:
        # Only dropped: below asyncio, closing would have to be awaited.
        raise
    except BaseException:
        close_all(results)
        raise
    close_all(results)


def _page(rows: Iterator[Row], decomposition: Decomposition) -> Iterator[Row]:
    page = decomposition.page
    return islice(rows, page.offset, page.ends) if page else rows


def _all_rows(results: Sequence[Result[Any]], decomposition: Decomposition) -> Iterator[Row]:
    shards = [rows_of(result) for result in results]
    if decomposition.groups is not None:
        rows = grouped(chain.from_iterable(shards), decomposition.groups)
        return iter(sorted(rows, key=row_key(decomposition.order))) if decomposition.order else rows
    rows = in_order(shards, decomposition.order) if decomposition.order else _chained(shards)
    return rows if decomposition.distinct is None else each_once(rows, decomposition.distinct)


def _chained(shards: Sequence[Iterator[Row]]) -> Iterator[Row]:
    # Every shard makes its objects before the first row is given away: `unique()` tells
    # objects apart by their address, which a later one could have once the first is gone.
    firsts = [list(islice(shard, 1)) for shard in shards]
    begun = (chain(first, rest) for first, rest in zip(firsts, shards, strict=True))
    return chain.from_iterable(begun)
