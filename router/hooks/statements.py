"""Parts of statements that have no public accessor.

Leans on `HasCacheKey._generate_cache_key` (memoised by SQLAlchemy on every statement, so that
asking for it costs nothing more), `LambdaElement._resolved`, `ColumnElement._proxies`,
`CTE._cte_alias`, `GenerativeSelect._for_update_arg`, the `_params` of statements (from 2.1 on), and
the `_values`, `_multi_values`, `_ordered_values`, `_returning`,
`select`, `_select_names`, `_inline`, `_propagate_attrs`, `_independent_ctes` and
`_post_values_clause` of DML statements, and the `update_values_to_set`, `update` and
`inferred_target_elements` of the last. Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, Alias, Column, CompoundSelect, FromClause, Select, Table
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import BindParameter, ClauseElement, ColumnClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.lambdas import LambdaElement

NOTHING_GIVEN: Mapping[str, Any] = {}


def resolved(statement: Any) -> Any:
    """Return the statement or clause that a lambda stands for, or `statement` itself."""
    return statement._resolved if isinstance(statement, LambdaElement) else statement


def is_opaque(statement: Any) -> bool:
    """Return whether the tables of `statement` cannot be seen: text, DDL and the like."""
    statement = resolved(statement)
    if isinstance(statement, FromStatement):
        statement = statement.element
    seen = (Select, CompoundSelect, UpdateBase, FunctionElement)
    return statement is not None and not isinstance(statement, seen)


def write_within(statement: Any) -> UpdateBase | None:
    """Return the write whose rows ``select(...).from_statement(...)`` loads as objects, or None."""
    element = statement.element if isinstance(statement, FromStatement) else None
    return element if isinstance(element, UpdateBase) else None


def is_unseen(statement: Any) -> bool:
    """Return whether what `statement` writes, if anything, is not looked into."""
    return is_opaque(statement) or write_within(statement) is not None


def locks_rows(statement: Any) -> bool:
    """Return whether a SELECT locks the rows that it reads (``with_for_update()``)."""
    statement = resolved(statement)
    parts = visitors.iterate(statement) if isinstance(statement, ClauseElement) else ()
    return any(getattr(part, "_for_update_arg", None) is not None for part in parts)


def cache_key(
    statement: Any,
) -> tuple[Any, Sequence[BindParameter[Any]], Mapping[str, Any]]:
    """Return a hashable key of the statement's shape, its parameters, and values given to it.

    The key is None where SQLAlchemy has none.  Values are those of ``statement.params()``,
    where SQLAlchemy keeps them beside the parameters.
    """
    key = statement._generate_cache_key()
    if key is None:
        return (None, *_parameters(statement))
    return key.key, key.bindparams, getattr(key, "params", None) or NOTHING_GIVEN


def _parameters(statement: Any) -> tuple[Sequence[BindParameter[Any]], Mapping[str, Any]]:
    binds: dict[int, BindParameter[Any]] = {}
    given: dict[str, Any] = {}
    for part in visitors.iterate(statement):
        if isinstance(part, BindParameter):
            binds.setdefault(id(part), part)
        # Outer values go before inner ones.
        given = {**(getattr(part, "_params", None) or {}), **given}
    return list(binds.values()), given


def with_value(statement: Any, bind: BindParameter[Any], value: Any) -> Any:
    """Return a copy of `statement` in which `bind` has another value; its cache key is the same.

    Not ``statement.params()``: from 2.1 on that looks values up by name, and the name of an
    anonymous parameter is another one in a statement that SQLAlchemy has compiled before.
    """

    def replace(found: Any) -> None:
        if found.key == bind.key:
            found.value = value
            found.callable = None
            found.required = False

    return visitors.cloned_traverse(
        statement, {"maintain_key": True, "detect_subquery_cols": True}, {"bindparam": replace}
    )


class StatementCache(dict[Any, Any]):
    """What is known of statements, by their cache keys; safe in threads.

    Parameters
    ----------
    size:
        The number of entries from which on the oldest tenth makes room for a new one.
    """

    # Not SQLAlchemy's own, which counts every look-up.
    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def remember(self, key: Any, value: Any) -> None:
        """Keep `value`, for a while; nothing is kept for None."""
        if key is None:
            return
        if len(self) >= self._size:
            for one in list(self)[: self._size // 10 + 1]:
                self.pop(one, None)
        self[key] = value


# -- columns of derived tables -----------------------------------------------------------------


def proxied(column: Any) -> Any:
    """Return what the column of a derived table stands for in its SELECT, or None."""
    behind: Sequence[Any] = getattr(column, "_proxies", ())
    if len(behind) == 2 and getattr(behind[1], "element", None) is behind[0]:
        # A label, and the column that it labels.
        return behind[1]
    return behind[0] if len(behind) == 1 else None


def aliased_cte(element: FromClause) -> CTE | None:
    """Return the CTE of which `element` is another name, or None."""
    return getattr(element, "_cte_alias", None) if isinstance(element, CTE) else None


# -- INSERT, UPDATE, DELETE --------------------------------------------------------------------


def given_values(statement: Any) -> Iterator[Mapping[Any, Any]]:
    """Yield each VALUES row (or the one SET) of a DML statement, keyed by column or name.

    A ``column("name")`` that is of no table is given as the column that it means.
    """
    for row in _rows(statement):
        if any(map(_is_loose, row)):
            yield {_meant(one, statement) if _is_loose(one) else one: row[one] for one in row}
        else:
            yield row


def _is_loose(name: Any) -> bool:
    return name.__class__ is not str and isinstance(name, ColumnClause) and name.table is None


def _meant(loose: ColumnClause[Any], statement: Any) -> Any:
    columns = plain_table(statement.table).columns
    return next((one for one in columns if one.name == loose.name), loose.name)


def _rows(statement: Any) -> Iterator[Mapping[Any, Any]]:
    single = dict(statement._values or {})
    single.update(getattr(statement, "_ordered_values", None) or ())
    if single:
        yield single
    columns = list(statement.table.columns)
    for rows in statement._multi_values or ():
        for row in rows:
            if isinstance(row, Mapping):
                yield row
            else:
                yield dict(zip(columns, row, strict=False))


def selected(statement: Any) -> Any:
    """Return the SELECT of an INSERT ... SELECT, or None."""
    return getattr(statement, "select", None)


def select_names(statement: Any) -> Sequence[str]:
    """Return the names of the columns that an INSERT ... SELECT fills."""
    return statement._select_names or ()


def without_select(statement: Any) -> Any:
    """Return an INSERT ... SELECT as one, of the table, of rows given to its execution."""
    copy = statement._generate()
    copy.select = copy._select_names = None
    copy._inline = False
    copy._propagate_attrs = NOTHING_GIVEN
    copy.table = plain_table(statement.table)
    return copy


def on_conflict(statement: Any) -> Any:
    """Return the ON CONFLICT or ON DUPLICATE KEY clause of an INSERT, or None."""
    return getattr(statement, "_post_values_clause", None)


def conflict_values(clause: Any) -> Mapping[Any, Any]:
    """Return what an ON CONFLICT or ON DUPLICATE KEY clause sets, by column or name."""
    found = getattr(clause, "update_values_to_set", None) or getattr(clause, "update", None)
    return dict(found or {})


def conflict_columns(clause: Any) -> set[str]:
    """Return the names of the columns that an ON CONFLICT clause is about; none: any."""
    elements = getattr(clause, "inferred_target_elements", None) or ()
    return {getattr(one, "name", None) or str(one) for one in elements}


def appendages(statement: Any) -> Iterator[Any]:
    """Yield what a DML statement carries besides table, values and criteria."""
    returning = (one for one in statement._returning if not isinstance(one, (Column, Table)))
    yield from returning
    yield from statement._independent_ctes


def plain_table(table: Any) -> Table:
    """Return the `Table` behind an aliased, annotated or ORM-enabled one."""
    while isinstance(table, Alias):
        table = table.element
    columns = getattr(table, "c", None)
    owner = next(iter(columns)).table if columns else table
    return owner if type(owner) is Table else table


def attribute_names(mapper: Any, column: Column[Any]) -> tuple[str, ...]:
    """Return the names under which rows may give `column`: its attribute's and its key.

    The key is left out where it is the name of another column's attribute.
    """
    if mapper is None or column not in mapper._columntoproperty:
        return (column.key,)
    name = mapper.get_property_by_column(column).key
    return (name,) if mapper.has_property(column.key) else (name, column.key)


def is_lasting(function: Any) -> bool:
    """Return whether a parameter's callable gives the same value again.

    Those with which the ORM reads the attributes of an object do.
    """
    return str(getattr(function, "__module__", "")).startswith("sqlalchemy.orm.")
