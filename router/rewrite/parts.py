"""What stands in the clauses of a SELECT, and what of it no merge can follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import FromClause, Select
from sqlalchemy.sql.elements import ColumnClause, Extract, Over, TextClause, WithinGroup
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import ScalarSelect, SelectBase

from router.hooks.trace import is_custom
from router.rewrite.terms import InexactError
from router.route.texts import is_plain_value
from router.route.transparency import ROW_FUNCTIONS

OF_ONE_ROW = ROW_FUNCTIONS | frozenset("date_trunc extract date strftime nullif sign".split())
"""Functions of the values of one row, which give the same wherever and whenever they run."""

OF_A_WINDOW = frozenset(
    "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value "
    "nth_value".split()
)

AGGREGATES = frozenset(
    "any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop "
    "covar_samp every group_concat json_agg json_arrayagg json_group_array json_group_object "
    "json_object_agg json_objectagg jsonb_agg jsonb_object_agg max min mode percentile_cont "
    "percentile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx "
    "regr_sxy regr_syy std stddev stddev_pop stddev_samp string_agg aggregate_strings sum total "
    "var_pop var_samp variance xmlagg".split()
)
"""Functions of all rows of a group: right on each shard where no group crosses shards."""


@dataclass(slots=True)
class Parts:
    """The functions in the clauses of one SELECT that depend on more than one row."""

    aggregates: list[Any] = field(default_factory=list)
    windows: list[Over[Any]] = field(default_factory=list)


def parts_of(select: Select[Any]) -> Parts:
    """Return what depends on several rows; refuse what cannot be followed."""
    _check_clauses(select)
    parts = Parts()
    for clause in (
        *select._raw_columns,
        *select._order_by_clauses,
        *select._group_by_clauses,
        *select._having_criteria,
    ):
        _collect(clause, parts)
    return parts


def aggregates_in(clause: Any) -> list[Any]:
    """Return the aggregates in an expression, those of windows left out."""
    parts = Parts()
    _collect(clause, parts)
    return parts.aggregates


def _check_clauses(select: Any) -> None:
    extensions = ("_pre_columns_clause", "_post_select_clause", "_post_criteria_clause",
                  "_post_body_clause")  # fmt: skip
    for present, name in (
        (select._prefixes or select._suffixes, "a prefix or suffix"),
        (select._hints or select._statement_hints, "a hint"),
        (select._distinct_on, "DISTINCT ON"),
        (any(getattr(select, one, None) is not None for one in extensions), "an extension"),
    ):
        if present:
            raise InexactError(name)


def _collect(clause: Any, parts: Parts) -> None:
    if isinstance(clause, Over):
        _collect_window(clause, parts)
        return
    if isinstance(clause, WithinGroup):
        _collect_aggregate(clause, clause.element, parts)
        return
    if isinstance(clause, FunctionElement):
        name = function_name(clause)
        if not is_custom(clause) and name in AGGREGATES:
            _collect_aggregate(clause, clause, parts)
            return
        if is_custom(clause) or name not in OF_ONE_ROW:
            raise InexactError(f"the function {name}()")
    elif is_custom(clause) or _is_text(clause):
        raise InexactError(f"the text {str(clause)[:60]!r}")
    for child in _children(clause):
        _collect(child, parts)


def _collect_window(over: Over[Any], parts: Parts) -> None:
    parts.windows.append(over)
    element: Any = over.element
    function = getattr(element, "func", element)
    name = function_name(function)
    if is_custom(function) or name not in OF_A_WINDOW | AGGREGATES:
        raise InexactError(f"the function {name}()")
    inner = [*_children(element), *_children(over.partition_by), *_children(over.order_by)]
    for child in inner:
        if child is not function:
            _collect(child, parts)
    for child in _children(function) if function is not element else ():
        _collect(child, parts)


def _collect_aggregate(clause: Any, function: Any, parts: Parts) -> None:
    if is_custom(function) or function_name(function) not in AGGREGATES:
        raise InexactError(f"the function {function_name(function)}()")
    parts.aggregates.append(clause)
    inner = Parts()
    for child in _children(clause):
        if child is not function:
            _collect(child, inner)
    for child in _children(function) if function is not clause else ():
        _collect(child, inner)
    if inner.aggregates or inner.windows:
        raise InexactError("an aggregate of aggregates")


def _children(clause: Any) -> Iterable[Any]:
    if clause is None:
        return ()
    closed = isinstance(clause, (SelectBase, ScalarSelect, FromClause))
    if closed and not isinstance(clause, FunctionElement):
        return ()
    children: Iterator[Any] = iter(clause.get_children())
    return children


def function_name(function: Any) -> str:
    """Return the lower-case name of a function, with its packages."""
    if isinstance(function, Extract):
        return "extract"
    packages = getattr(function, "packagenames", ()) or ()
    name = getattr(function, "name", type(function).__name__)
    return ".".join((*packages, str(name))).lower()


def _is_text(clause: Any) -> bool:
    if isinstance(clause, ColumnClause):
        return clause.is_literal and not is_plain_value(clause.name)
    return isinstance(clause, TextClause) and not is_plain_value(clause.text)
