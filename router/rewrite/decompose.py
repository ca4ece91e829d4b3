"""From one SELECT to a statement for every shard, and how to merge what they give.

It is given that every shard gives exactly its own rows of the statement's FROM and WHERE.
What is decided here is whether ORDER BY, LIMIT, DISTINCT, aggregates, GROUP BY, HAVING and
window functions can be merged from what each shard makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select

from router.hooks.results import multiplies_rows
from router.hooks.selects import gives_single_entity, is_orm
from router.hooks.statements import resolved
from router.rewrite.columns import Columns, expressions, shown
from router.rewrite.ordering import SortKey, sort_keys
from router.rewrite.paging import EVERYTHING, Given, Page, first_rows, page_of, unpaged
from router.rewrite.parts import Parts, parts_of
from router.rewrite.terms import InexactError, Terms, Undecomposable


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A statement for every shard, and how to merge their rows into those of one database.

    Parameters
    ----------
    statement, params:
        What to execute on every shard.
    width:
        How many columns or entities the caller sees; more are only for the merge.
    entity:
        Rows are single objects, not tuples.
    order:
        Keys by which every shard sorts its rows.
    page:
        Which of the merged rows to show.
    """

    statement: Select[Any]
    params: Mapping[str, Any] | None
    width: int
    entity: bool
    order: tuple[SortKey, ...] = ()
    page: Page = EVERYTHING

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the merge, for people."""
        found = []
        if self.order:
            found.append(f"order by {', '.join(map(str, self.order))}")
        if self.page.offset:
            found.append(f"skip {self.page.offset} rows")
        if self.page.limit is not None:
            found.append(f"at most {self.page.limit} rows")
        return tuple(found) or ("rows of one shard after another",)


def decompose(
    statement: Any, params: Mapping[str, Any] | None, terms: Terms
) -> Decomposition | Undecomposable:
    """Return how to get the rows of `statement` from every shard, or why that is not exact."""
    select = resolved(statement)
    if not isinstance(select, Select):
        return Undecomposable("it is not one SELECT")
    try:
        return _decompose(select, params, terms)
    except InexactError as error:
        return Undecomposable(str(error))


def _decompose(
    select: Select[Any], params: Mapping[str, Any] | None, terms: Terms
) -> Decomposition:
    parts = parts_of(select)
    columns = Columns(select, terms)
    page = page_of(select, Given(select, params))
    _check_windows(parts, columns)
    _check_groups(select, parts, columns)
    order = sort_keys(select._order_by_clauses, columns)
    if page and is_orm(select) and multiplies_rows(select):
        raise InexactError("LIMIT with a collection that is loaded by a join")
    return Decomposition(
        first_rows(columns.statement(), page.ends) if page else columns.statement(),
        params,
        columns.width,
        gives_single_entity(select),
        order,
        page,
    )


def _check_groups(select: Any, parts: Parts, columns: Columns) -> None:
    grouping = expressions(select._group_by_clauses, columns)
    grouped = bool(grouping or parts.aggregates or select._having_criteria)
    if grouped and not columns.terms.holds_key(grouping):
        raise InexactError("groups over several shards")
    if select._distinct and not columns.terms.holds_key(list(select.selected_columns)):
        raise InexactError("DISTINCT over several shards")


def _check_windows(parts: Parts, columns: Columns) -> None:
    for over in parts.windows:
        partition = [] if over.partition_by is None else list(over.partition_by.get_children())
        if not columns.terms.holds_key(expressions(partition, columns)):
            raise InexactError(f"a window over rows of several shards: {shown(over)}")
