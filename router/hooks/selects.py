"""The parts of a SELECT that have no public accessor.

Leans on `Select._raw_columns`, `_all_selected_columns`, `_propagate_attrs`, `_generate`,
`_having_criteria`, `_where_criteria`, `_from_obj` and `_setup_joins`, `_from_objects`, the
annotations that the ORM leaves on entities and bundles, `_label_reference`,
`_textual_label_reference`, and `ColumnElement._tq_label` and `_allow_label_resolve`, by which
names in ORDER BY are resolved; and on `TraversalComparatorStrategy.visit_propagate_attrs`, with
its `compare_...` methods, one for each kind of element, by `__visit_name__`.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy.orm import Bundle
from sqlalchemy.sql.elements import (
    _label_reference,
    _textual_label_reference,
)
from sqlalchemy.sql.expression import FromClause, Join
from sqlalchemy.sql.traversals import (
    COMPARE_FAILED,
    SKIP_TRAVERSE,
    TraversalComparatorStrategy,
)


def is_orm(select: Any) -> bool:
    """Return whether the ORM compiles `select`."""
    return bool(select._propagate_attrs.get("compile_state_plugin") == "orm")


def is_entity(element: Any) -> bool:
    """Return whether an element of a SELECT is a mapped class or a bundle of columns."""
    notes = element._annotations
    return "bundle" in notes or ("parententity" in notes and isinstance(element, FromClause))


def gives_single_entity(select: Any) -> bool:
    """Return whether the rows of `select` are objects, for SQLAlchemy, and not tuples."""
    elements = select._raw_columns
    if not is_orm(select) or len(elements) != 1 or not is_entity(elements[0]):
        return False
    bundle = elements[0]._annotations.get("bundle")
    return not isinstance(bundle, Bundle) or bool(bundle.single_entity)


class _Written(TraversalComparatorStrategy):
    """Compares expressions as SQL, wherever the ORM found them."""

    __slots__ = ()

    def visit_propagate_attrs(self, *_: Any, **__: Any) -> None:
        """Leave out which mapper an expression came from: mappers cannot be compared."""

    def compare_column(self, left: Any, right: Any, **_: Any) -> Any:
        """Tell apart what only gets its name when it is compiled: columns of two aliases."""
        # What the ORM has annotated has the hash of what it annotates.
        return SKIP_TRAVERSE if hash(left) == hash(right) else COMPARE_FAILED

    compare_table = compare_alias = compare_subquery = compare_cte = compare_column
    compare_lateral = compare_tablesample = compare_table_valued_alias = compare_column
    compare_table_valued_column = compare_values = compare_column


def written_alike(left: Any, right: Any) -> bool:
    """Return whether two expressions are the same SQL, with equal parameters."""
    comparator: Any = _Written
    return bool(comparator().compare(left, right))


def label_target(clause: Any) -> Any:
    """Return the expression that a reference to a label wraps, or None."""
    return clause.element if isinstance(clause, _label_reference) else None


def resolved_name(clause: Any) -> str | None:
    """Return the name that stands for a column in ORDER BY or GROUP BY, or None."""
    return clause.element if isinstance(clause, _textual_label_reference) else None


def names_of_columns(select: Any, name: str) -> list[Any]:
    """Return the columns that `name` may mean: one of the SELECT before one of its FROM."""
    selected = [
        column
        for column in select._all_selected_columns
        if getattr(column, "_allow_label_resolve", False)
        and name == (column._tq_label or column.key)
    ]
    if selected:
        return _different(selected)
    froms = [column for element in select.get_final_froms() for column in element.columns]
    return _different([column for column in froms if column.key == name])


def _different(columns: list[Any]) -> list[Any]:
    return list({id(getattr(one, "_Annotated__element", one)): one for one in columns}.values())


def with_columns(select: Any, columns: Sequence[Any]) -> Any:
    """Return `select` with more columns, compiled as before: by the ORM or not.

    None if the columns are of tables that it does not select from: those in HAVING or
    ORDER BY alone put no table into the FROM, where columns would.
    """
    changed = select.add_columns(*columns)
    changed._propagate_attrs = select._propagate_attrs
    if _tables(columns) <= _tables(_sources(select)):
        return changed
    same = len(changed.get_final_froms()) == len(select.get_final_froms())
    return changed if same else None


def _sources(select: Any) -> Iterator[Any]:
    yield from (*select._raw_columns, *select._where_criteria, *select._from_obj)
    for target, _, left, _ in select._setup_joins:
        yield from (one for one in (target, left) if hasattr(one, "_from_objects"))


def _tables(elements: Iterable[Any]) -> set[Any]:
    found: set[Any] = set()
    rest = [one for element in elements for one in element._from_objects]
    while rest:
        one = rest.pop()
        if isinstance(one, Join):
            rest += [one.left, one.right]
        found.add(one)
    return found


def without_having(select: Any) -> Any:
    """Return `select` without its HAVING."""
    select = select._generate()
    select._having_criteria = ()
    return select
