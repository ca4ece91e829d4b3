"""Criteria for what SQLAlchemy's own `with_loader_criteria()` passes over.

It reaches what is named as an entity.  In 2.0 it does not reach a table that only WHERE or a
function names, as in ``exists().where(Order.paid)`` or ``select(func.count(Order.id))``, nor the
load of one object's own row.  Such a SELECT gets its criteria in WHERE here.

`GuardCriteria` are options that objects do not keep for later loads, unlike those that
`with_loader_criteria()` passes on to joined eager loads.

Leans on `LoaderCriteriaOption`, whose `propagate_to_loaders` decides about both, its
`_adapt_cached_option_to_uncached_option` and `_resolve_where_criteria`, on `_deep_annotate`, on the
`_annotations` of ORM constructs, on `_raw_columns`, `_where_criteria`, `_from_obj`, `_setup_joins`,
`_values` and the other clauses of `Select` and DML statements that it reads or replaces, and on
`_generate`.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import Alias, CompoundSelect, FromClause, Join, Select, Table, and_, inspect, true
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.orm.interfaces import UserDefinedOption
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import BindParameter, ColumnClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import (
    AliasedReturnsRows,
    FromGrouping,
    ScalarSelect,
    SelectBase,
    SelectStatementGrouping,
)
from sqlalchemy.sql.util import _deep_annotate
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.util import immutabledict

from router.hooks.mappers import subject_of

Criterion = Callable[[Any], Any]
"""Returns the criterion of a mapper, or an alias of one or of a table, None if it has none."""

_CLAUSES = (
    "_raw_columns",
    "_where_criteria",
    "_having_criteria",
    "_order_by_clauses",
    "_group_by_clauses",
)


_KEPT = UserDefinedOption()


class GuardCriteria(LoaderCriteriaOption):
    """Criteria of one statement and of the eager loads in it.

    Parameters
    ----------
    mapper:
        The mapper that they are for, with its subclasses and all aliases of these.
    make:
        Returns the criterion of a mapper or an alias of one, None if it has none.  It has to use
        the same parameters each time, by which SQLAlchemy knows the values of a cached statement.
    """

    __slots__ = ("_besides", "_make", "kind")
    # Of its own, or statements with it would not be cached.
    _traverse_internals = [  # noqa: RUF012 - as SQLAlchemy's classes have it
        *LoaderCriteriaOption._traverse_internals,
        ("kind", InternalTraversal.dp_string),
    ]

    def __init__(
        self, mapper: Mapper[Any], make: Criterion, besides: frozenset[Any] = frozenset()
    ) -> None:
        self._make = make
        self._besides = besides
        # Which entities are left out follows from the statement, which has a key of its own.
        self.kind = "some" if besides else "all"
        super().__init__(
            mapper.class_, make(mapper), include_aliases=True, propagate_to_loaders=True
        )

    def without(self, entities: frozenset[Any]) -> GuardCriteria:
        """Return the same criteria, with the same parameters, for other entities only."""
        return GuardCriteria(self.entity.mapper, self._make, entities)  # type: ignore[union-attr]

    def _resolve_where_criteria(self, ext_info: Any) -> Any:
        """Return the criterion of what is selected, which SQLAlchemy does not adapt to aliases."""
        own = None if ext_info in self._besides else self._make(ext_info)
        # What has none takes its rows from a SELECT, which has its own.
        return _deep_annotate(
            true() if own is None else own,
            {"for_loader_criteria": self},
            detect_subquery_cols=True,
            ind_cols_on_fromclause=True,
        )

    def _adapt_cached_option_to_uncached_option(self, _context: Any, _uncached: Any) -> Any:
        """Return what the objects keep of it: nothing that has a meaning."""
        return _KEPT


def shows(entity: Any, columns: Iterable[Any]) -> bool:
    """Return whether what an entity stands for, which may be a subquery, has its `columns`."""
    selectable = entity.selectable
    element = selectable
    while isinstance(element, AliasedReturnsRows):
        element = element.element
    derived = isinstance(element, (SelectBase, SelectStatementGrouping))
    return not derived or all(selectable.corresponding_column(c) is not None for c in columns)


def optioned(statement: Any, options: Iterable[Any]) -> Any:
    """Return a copy of a statement with `options` for it and for the SELECT that it wraps."""
    # Of a set operation, SQLAlchemy compiles options and does not know their values again.
    if isinstance(statement, CompoundSelect):
        return statement
    copy = statement.options(*options)
    if isinstance(statement, FromStatement) and isinstance(statement.element, SelectBase):
        copy.element = optioned(statement.element, options)
    return copy


def restricted(statement: Any, criterion: Criterion) -> Any:
    """Return a copy of a statement whose SELECTs have the criteria of what they select from."""
    if isinstance(statement, FromStatement):
        copy = statement._generate()
        copy.element = _select(statement.element, criterion, frozenset())
        return copy
    if isinstance(statement, UpdateBase):
        return _write(statement, criterion)
    return _select(statement, criterion, frozenset())


def _write(statement: Any, criterion: Criterion) -> Any:
    subject = subject_of(statement)
    entity = statement.table._annotations.get("parententity", subject)
    clauses = [*statement._where_criteria, *_values(statement).values()]
    # Others are tables of UPDATE ... FROM and the like.
    named = dict.fromkeys((entity, *(other for one in clauses for other in entities(one))))
    around = frozenset(named)
    copy = _valued(statement, criterion, around)
    criteria = (_inner(one, criterion, around) for one in statement._where_criteria)
    copy._where_criteria = tuple(criteria)
    found = (criterion(one) for one in named if one is not None)
    return copy.where(*(own for own in found if own is not None))


def _values(statement: Any) -> dict[Any, Any]:
    return dict(getattr(statement, "_values", None) or {})


def _valued(statement: Any, criterion: Criterion, around: frozenset[Any]) -> Any:
    """Return a copy of a write whose values are SELECTs with criteria."""
    copy = statement._generate()
    given = _values(statement)
    if given:
        inner = {name: _inner(value, criterion, around) for name, value in given.items()}
        copy._values = immutabledict(inner)
    return copy


def with_values(statement: Any, criterion: Criterion) -> Any:
    """Return a copy of an INSERT whose values are SELECTs with criteria; None if none are."""
    return _valued(statement, criterion, frozenset()) if subqueries(statement) else None


def subqueries(statement: Any) -> list[Any]:
    """Return the SELECTs among the values of an INSERT, outer ones first."""
    found = (part for value in _values(statement).values() for part in visitors.iterate(value))
    return [part.element for part in found if isinstance(part, ScalarSelect)]


def _select(select: Any, criterion: Criterion, outer: frozenset[Any]) -> Any:
    if isinstance(select, SelectStatementGrouping):
        copy: Any = select._clone()
        copy.element = _select(select.element, criterion, outer)
        return copy
    if isinstance(select, CompoundSelect):
        copy = select._generate()
        copy.selects = [_select(one, criterion, outer) for one in select.selects]
        return copy
    if not isinstance(select, Select):
        return select
    return _plain_select(select, criterion, outer)


def _plain_select(select: Any, criterion: Criterion, outer: frozenset[Any]) -> Any:
    joined = _joined(select)
    rebuilt = [_rebuilt(element, criterion) for element in select._from_obj]
    if joined is None or None in rebuilt:
        return select
    named = dict.fromkeys(
        entity for name in _CLAUSES for one in getattr(select, name) for entity in entities(one)
    )
    named.update(dict.fromkeys(e for one in select._from_obj for e in _selected(one)))
    around = outer | named.keys() | joined
    copy = select._generate()
    copy._from_obj = tuple(element for element, _ in rebuilt)
    for name in _CLAUSES:
        clauses = [_inner(one, criterion, around) for one in getattr(select, name)]
        setattr(copy, name, clauses if name == "_raw_columns" else tuple(clauses))
    whole = [own for _, some in rebuilt for own in some]
    for entity in named:
        own = criterion(entity) if entity not in outer and entity not in joined else None
        if own is not None:
            whole.append(own)
    # Not by `where()`, which would make a statement of the ORM of one of Core: its columns
    # would get other names.
    copy._where_criteria += tuple(whole)
    return copy


def _selected(element: Any) -> Iterator[Any]:
    """Yield the entities that an element of FROM names.

    For `any()` and `has()` of a class that refers to itself SQLAlchemy makes an alias that is of
    no entity, or is said to be of the class itself: it stands for itself.
    """
    table = isinstance(element, Alias) and isinstance(element.element, Table)
    if table and "no_replacement_traverse" in element._annotations:
        yield element
    else:
        yield from entities(element)


def _rebuilt(element: Any, criterion: Criterion) -> Any:
    """Return a join with the criteria of its optional sides, and those of the others.

    None where there is no place for them: in a full join.
    """
    if not isinstance(element, Join):
        return element, []
    left, right = (_side(one, criterion) for one in (element.left, element.right))
    if left is None or right is None or (element.full and (left[1] or right[1])):
        return None
    copy: Any = element._clone()
    copy.left, copy.right = left[0], right[0]
    if not element.isouter:
        return copy, [*left[1], *right[1]]
    copy.onclause = and_(copy.onclause, *right[1])
    return copy, left[1]


def _side(element: Any, criterion: Criterion) -> Any:
    if isinstance(element, FromGrouping):
        inner = _side(element.element, criterion)
        if inner is None:
            return None
        copy: Any = element._clone()
        copy.element = inner[0]
        return copy, inner[1]
    if isinstance(element, Join):
        return _rebuilt(element, criterion)
    entity = element._annotations.get("parententity")
    own = criterion(entity) if entity is not None else None
    return element, [] if own is None else [own]


def joined_entities(statement: Any) -> frozenset[Any]:
    """Return what stands in outer joins that were made beforehand; full ones are not looked for.

    SQLAlchemy would put its criteria into WHERE, where they would make an inner join of it.
    """
    found: set[Any] = set()
    for part in visitors.iterate(statement):
        for element in getattr(part, "_from_obj", ()):
            if any(one.isouter for one in _joins(element)):
                found.update(one._annotations.get("parententity") for one in _leaves(element))
    return frozenset(found - {None})


def joins_fully(statement: Any) -> bool:
    """Return whether there is a full join in a statement."""
    return any(_is_full(part) for part in visitors.iterate(statement))


def _is_full(part: Any) -> bool:
    if isinstance(part, Join):
        return part.full
    return any(flags["full"] for *_, flags in getattr(part, "_setup_joins", ()))


def _joins(element: Any) -> Iterator[Any]:
    if isinstance(element, FromGrouping):
        yield from _joins(element.element)
    elif isinstance(element, Join):
        yield element
        yield from _joins(element.left)
        yield from _joins(element.right)


def _leaves(element: Any) -> Iterator[Any]:
    if isinstance(element, FromGrouping):
        yield from _leaves(element.element)
    elif isinstance(element, Join):
        yield from _leaves(element.left)
        yield from _leaves(element.right)
    else:
        yield element


def _joined(select: Any) -> frozenset[Any] | None:
    """Return what is joined, whose criteria belong into ON; None where that is not clear."""
    found: set[Any] = set()
    for element in select._from_obj:
        if isinstance(element, Join):
            found.update(one._annotations.get("parententity") for one in _leaves(element))
    for target, _, _, flags in select._setup_joins:
        if flags["full"]:
            return None
        relationship = getattr(target, "property", None)
        entity = target._annotations.get("parententity") if relationship is None else None
        if relationship is not None:
            of_type = getattr(target, "_of_type", None)
            entity = relationship.entity if of_type is None else inspect(of_type)
        if entity is not None:
            found.add(entity)
    return frozenset(found - {None})


def entities(clause: Any) -> Iterator[Any]:
    """Yield the mappers, and aliases of mappers, that an expression names itself."""
    entity = getattr(clause, "_annotations", {}).get("parententity")
    if entity is not None:
        yield entity
    elif not _is_from(clause) and not isinstance(clause, (ScalarSelect, SelectBase)):
        for child in clause.get_children():
            yield from entities(child)


def _is_from(clause: Any) -> bool:
    # To SQLAlchemy, a function may be a table, too.
    return isinstance(clause, FromClause) and not isinstance(clause, FunctionElement)


def _inner(clause: Any, criterion: Criterion, around: frozenset[Any]) -> Any:
    """Return `clause` with the SELECTs in it restricted; the same if there are none."""
    if _is_from(clause) and not isinstance(clause, SelectBase):
        return clause

    def replace(element: Any, **_: Any) -> Any:
        if isinstance(element, (Select, CompoundSelect, SelectStatementGrouping)):
            return _select(element, criterion, around)
        kept = _is_from(element) or isinstance(element, (ColumnClause, BindParameter))
        return element if kept else None

    nested = any(isinstance(one, (SelectBase, ScalarSelect)) for one in visitors.iterate(clause))
    return visitors.replacement_traverse(clause, {}, replace) if nested else clause


def with_select(statement: Any, select: Any, options: Iterable[Any]) -> Any:
    """Return a copy of an INSERT ... SELECT of other rows."""
    copy = statement.options(*options)
    copy.select = select
    return copy
