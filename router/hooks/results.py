"""Results that are made of other results.

Leans on the `context` of results, `Result._fetchiter_impl`, `_metadata`, `_unique_filter_state`,
`_yield_per`, `_source_supports_scalars`, `_attributes` and `_soft_close`; on
`IteratorResult.raw`; on `CursorResultMetaData._make_new_metadata` with its `_keymap` and
`_keys`; on `SimpleResultMetaData` with its `_keymap`, `_keys` and `_create_unique_filters`
(before 2.1 `_unique_filters`); on the execution option `_sa_orm_load_options` and its
`_only_return_tuples`; on `ORMCompileState.multi_row_eager_loaders`, `Select._with_options` and
`_raw_columns` with their annotations; and on the `_variant_mapping` of types.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from sqlalchemy.engine.cursor import CursorResultMetaData
from sqlalchemy.engine.result import IteratorResult, Result, SimpleResultMetaData

from router.hooks.statements import StatementCache, cache_key

Rows = Iterator[tuple[Any, ...]]


def rows_of(result: Result[Any]) -> Rows:
    """Return the rows of `result` as tuples of finished values, uniqueness left to others.

    Without ``yield_per`` all objects are loaded here.  ``unique()`` tells objects apart by their
    id, which is free for others once they are gone: those of one shard must not be gone when
    those of the next one are loaded.
    """
    result._unique_filter_state = None
    if not isinstance(result, IteratorResult) or result._metadata._effective_processors:
        return (tuple(row) for row in result)
    rows: Iterator[Any] = result._fetchiter_impl()
    if not result._yield_per:
        rows = iter(list(rows))
    if result._source_supports_scalars:
        return ((entity,) for entity in rows)
    return rows


def gives_scalars(result: Any) -> bool:
    """Return whether the rows of `result` are single objects, not tuples."""
    return bool(result._source_supports_scalars)


def width_of(result: Any) -> int:
    """Return how many columns `result` has; an alias of a class has no name in ``keys()``."""
    return len(result._metadata._keys)


def close_all(results: Sequence[Result[Any]], hard: bool = False) -> None:
    """Close every one of `results`, even where closing another one fails."""
    with ExitStack() as stack:
        for result in reversed(results):
            stack.callback(partial(result._soft_close, hard=hard))


class _All:
    """Stands for the results that rows are made of, for the result that closes them."""

    def __init__(self, results: Sequence[Result[Any]]) -> None:
        self.results = results

    @property
    def context(self) -> Any:
        """The context of one of the executions, by which streaming ones are known."""
        first: Any = self.results[0]
        return getattr(first, "raw", first).context

    def close(self) -> None:
        """Close the results, and their connections where they have some of their own."""
        self._soft_close(hard=True)

    def _soft_close(self, hard: bool = False, **_: Any) -> None:
        close_all(self.results, hard)


class _Merged(IteratorResult[Any]):
    """A result whose rows come from others, which it closes."""

    def yield_per(self, num: int) -> Any:
        """Fetch `num` rows at a time, from each of the results, too."""
        source: Any = self.raw
        for result in source.results:
            result.yield_per(num)
        return super().yield_per(num)


def merged(results: Sequence[Result[Any]], rows: Rows, width: int, *, entity: bool) -> Result[Any]:
    """Return a result of `rows`, made from those of `results`.

    Parameters
    ----------
    results:
        The results that `rows` reads, and that are closed with the new one.
    rows:
        Rows of the first `width` columns of `results`.
    width:
        The number of columns to show.
    entity:
        The statement was for one entity, whose rows are no tuples for SQLAlchemy.
    """
    first = results[0]
    state = next((one for one in results if one._unique_filter_state is not None), first)
    unique = state._unique_filter_state
    scalars = entity and not _only_tuples(first)
    shown: Iterator[Any] = (row[0] for row in rows) if scalars else rows
    every: Any = _All(results)
    result = _Merged(
        _metadata(first._metadata, width), shown, raw=every, _source_supports_scalars=scalars
    )
    result._unique_filter_state = unique
    # From 2.1 on, loaders ask it whether they have to call `unique()`.
    result.context = getattr(first, "context", None)
    result._yield_per = first._yield_per
    result._attributes = first._attributes
    if "is_single_entity" in first._attributes:
        result._attributes = first._attributes.union({"is_single_entity": scalars})
    return result


def _only_tuples(result: Any) -> bool:
    context = getattr(getattr(result, "raw", None), "context", None)
    options = getattr(context, "execution_options", {}).get("_sa_orm_load_options")
    return bool(getattr(options, "_only_return_tuples", False))


def _metadata(found: Any, width: int) -> Any:
    if isinstance(found, CursorResultMetaData):
        return _cursor_metadata(found, width)
    # By index, since two columns may have one name.
    extra = {record[0]: record[2] for record in found._keymap.values()}
    options: dict[str, Any] = {}
    if hasattr(found, "_unique_filters"):
        options["_unique_filters"] = found._unique_filters and found._unique_filters[:width]
    elif found._create_unique_filters is not None:
        create = found._create_unique_filters
        options["_create_unique_filters"] = lambda result: create(result)[:width]
    return SimpleResultMetaData(
        found._keys[:width], [extra.get(index, ()) for index in range(width)], **options
    )


def _cursor_metadata(found: Any, width: int) -> Any:
    """Return the metadata without the columns behind `width`, and for finished values."""
    return found._make_new_metadata(
        unpickled=found._unpickled,
        processors=[None] * width,
        keys=list(found._keys)[:width],
        keymap={
            key: (*record[:5], None, *record[6:])
            for key, record in found._keymap.items()
            if record[0] is None or record[0] < width
        },
        tuplefilter=None,
        translated_indexes=None,
        safe_for_cache=False,
        keymap_by_result_column_idx=None,
    )


# -- statements and types ----------------------------------------------------------------------


def variant(type_: Any, dialect: str) -> Any:
    """Return the type that ``with_variant()`` chose for a dialect, or `type_` itself."""
    return getattr(type_, "_variant_mapping", {}).get(dialect, type_)


def multiplies_rows(statement: Any) -> bool:
    """Return whether eager joins give several rows for one entity of `statement`."""
    if not statement._with_options and not any(map(_joins, _mappers(statement))):
        return False
    key = cache_key(statement)[0]
    known = _MULTIPLIES.get(key) if key is not None else None
    if known is None:
        state = statement.compile().compile_state
        known = bool(getattr(state, "multi_row_eager_loaders", False))
        _MULTIPLIES.remember(key, known)
    return known


_MULTIPLIES = StatementCache(500)


def _mappers(statement: Any) -> Iterator[Any]:
    for element in statement._raw_columns:
        mapper = element._annotations.get("parentmapper")
        if mapper is not None:
            yield from mapper.self_and_descendants


def _joins(mapper: Any) -> bool:
    return any(one.lazy in ("joined", False) for one in mapper.relationships)
