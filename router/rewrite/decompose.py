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
from router.hooks.selects import gives_single_entity, is_orm, without_having
from router.hooks.statements import resolved
from router.rewrite.columns import Columns, bare, expressions, same
from router.rewrite.grouping import Grouping
from router.rewrite.groups import Compared, Groups
from router.rewrite.ordering import SortKey, direction, sort_keys
from router.rewrite.paging import EVERYTHING, Given, Page, first_rows, page_of, unpaged
from router.rewrite.parts import Parts, parts_of
from router.rewrite.shown import Shown
from router.rewrite.terms import Family, InexactError, Terms, Undecomposable


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
    groups:
        How to put groups together that cross shards.
    order:
        Keys by which the rows are sorted: those of every shard already are, groups are not.
    distinct:
        What tells rows apart, where equal ones may come from several shards.
    page:
        Which of the merged rows to show.
    """

    statement: Select[Any]
    params: Mapping[str, Any] | None
    width: int
    entity: bool
    groups: Groups | None = None
    order: tuple[SortKey, ...] = ()
    distinct: tuple[Compared, ...] | None = None
    page: Page = EVERYTHING

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the merge, for people."""
        found = list(self.groups.steps) if self.groups is not None else []
        if self.order:
            found.append(f"order by {', '.join(map(str, self.order))}")
        if self.distinct is not None:
            found.append("each row once")
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
    given = Given(select, params)
    page = page_of(select, given)
    _check_windows(parts, columns)
    grouped = bool(select._group_by_clauses or parts.aggregates or select._having_criteria)
    if grouped and not terms.holds_key(expressions(select._group_by_clauses, columns)):
        if parts.windows or select._distinct:
            raise InexactError("DISTINCT or a window over groups of several shards")
        return _groups(Grouping(select, columns, given), params, page)
    if page and is_orm(select) and multiplies_rows(select):
        raise InexactError("LIMIT with a collection that is loaded by a join")
    _check_distinct_order(select, columns)
    order = sort_keys(select._order_by_clauses, columns)
    distinct = _distinct(select, columns)
    statement = columns.statement()
    return Decomposition(
        first_rows(statement, page.ends) if page else statement,
        params,
        columns.width,
        gives_single_entity(select),
        order=order,
        distinct=distinct,
        page=page,
    )


def _groups(grouping: Grouping, params: Mapping[str, Any] | None, page: Page) -> Decomposition:
    columns = grouping.columns
    order, groups = grouping.sort_keys(), grouping.groups()
    statement = without_having(unpaged(columns.statement().order_by(None)))
    return Decomposition(
        statement, params, columns.width, False, groups=groups, order=order, page=page
    )


def _check_distinct_order(select: Any, columns: Columns) -> None:
    # A column that is added for the merge would tell rows apart that are equal.
    if not select._distinct:
        return
    selected = [bare(one) for one in select.selected_columns]
    for clause in select._order_by_clauses:
        expression = columns.resolve(direction(clause, columns.terms.family).expression)
        if not any(same(expression, one) for one in selected):
            raise InexactError(f"DISTINCT rows ordered by {Shown(expression)}, not one of theirs")


def _distinct(select: Any, columns: Columns) -> tuple[Compared, ...] | None:
    """Return what tells rows apart, None where rows of two shards always differ."""
    if not select._distinct or columns.terms.holds_key(list(select.selected_columns)):
        return None
    compared = []
    for column in columns.shown:
        if column is None:
            raise InexactError("DISTINCT entities that do not show their shard key")
        position, values = columns.known(column, "DISTINCT")
        if not values.alike:
            raise InexactError(f"DISTINCT {Shown(column)}: equal values may look different")
        compared.append(Compared(position, values.kind, columns.terms.family is Family.SQLITE))
    return tuple(compared)


def _check_windows(parts: Parts, columns: Columns) -> None:
    for over in parts.windows:
        partition = [] if over.partition_by is None else list(over.partition_by.get_children())
        if not columns.terms.holds_key(expressions(partition, columns)):
            raise InexactError(f"a window over rows of several shards: {Shown(over)}")
