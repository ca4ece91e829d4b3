"""Results that are complete before their connection is gone.

Leans on the execution option ``prebuffer_rows``, with which the ORM makes its objects at
once, on the `raw` result behind an ORM result, and, for results of its own, on
`SimpleResultMetaData` and on what `Query` looks for in `_attributes`: ``filtered`` and
``is_single_entity``.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData

_STREAMING = ("yield_per", "stream_results", "max_row_buffer")


def buffering(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return execution options with which all rows are fetched at once."""
    kept = {name: value for name, value in options.items() if name not in _STREAMING}
    return {**kept, "prebuffer_rows": True}


def buffered(result: Any) -> Any:
    """Return a result executed with `buffering` options, free from its connection."""
    cursor = getattr(result, "raw", None)
    if cursor is None:
        return result.freeze()()
    cursor.close()
    return result


def assembled(
    names: Sequence[str], columns: Sequence[Sequence[Any]], options: Mapping[str, Any]
) -> Result[Any]:
    """Return a result of the given columns, whose cells are tuples of one value.

    It is as the ORM would make it for entities: one of a single entity gives scalars to
    `Query`, and rows to everybody else.
    """
    tuples = getattr(options.get("_sa_orm_load_options"), "_only_return_tuples", False)
    single = len(names) == 1 and not tuples
    rows: Any = (
        [cell[0] for cell in columns[0]]
        if single
        else [tuple(cell[0] for cell in row) for row in zip(*columns, strict=True)]
    )
    metadata = SimpleResultMetaData(list(names))
    result: Result[Any] = IteratorResult(metadata, iter(rows), _source_supports_scalars=single)
    filters = {"filtered": True, "is_single_entity": single}
    result._attributes = result._attributes.union(filters)
    return result
