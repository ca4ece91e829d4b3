"""Parts of statements that have no public accessor.

Leans on `HasCacheKey._generate_cache_key` (memoised by SQLAlchemy on every statement, so
that asking for it costs nothing more), `sqlalchemy.util.LRUCache`, and the `_values`,
`_multi_values` and `_ordered_values` of DML statements.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Column, CompoundSelect, Select, Table
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.lambdas import LambdaElement
from sqlalchemy.util import LRUCache


def resolved(statement: Any) -> Any:
    """Return the statement that a lambda statement stands for, or `statement` itself."""
    return statement._resolved if isinstance(statement, LambdaElement) else statement


def is_opaque(statement: Any) -> bool:
    """Return whether the tables of `statement` cannot be seen: text, DDL and the like."""
    statement = resolved(statement)
    if isinstance(statement, FromStatement):
        statement = statement.element
    seen = (Select, CompoundSelect, UpdateBase, FunctionElement)
    return statement is not None and not isinstance(statement, seen)


def cache_key(statement: Any) -> tuple[Any, list[BindParameter[Any]]]:
    """Return a hashable key of the statement's shape (None: it has none), and its parameters."""
    key = statement._generate_cache_key()
    if key is None:
        found = (part for part in visitors.iterate(statement) if isinstance(part, BindParameter))
        return None, list({part.key: part for part in found}.values())
    return key.key, key.bindparams


def new_cache(size: int) -> LRUCache[Any, Any]:
    """Return a mapping that keeps about `size` recently used entries and is safe in threads."""
    return LRUCache(size)


def given_values(statement: Any) -> Iterator[Mapping[Any, Any]]:
    """Yield each VALUES row (or the one SET) of a DML statement, keyed by column or name."""
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
    """Return the SELECT of an INSERT ... SELECT with the names it fills, or None."""
    select = getattr(statement, "select", None)
    return None if select is None else (select, tuple(statement._select_names or ()))


def plain_table(table: Any) -> Table:
    """Return the `Table` behind an annotated or ORM-enabled one."""
    found = table.table if not isinstance(table, Table) and hasattr(table, "table") else table
    columns = getattr(found, "c", None)
    owner = next(iter(columns)).table if columns else found
    return owner if type(owner) is Table else found


def attribute_names(mapper: Any, column: Column[Any]) -> tuple[str, ...]:
    """Return the names under which rows may give `column`: its key, name and attribute."""
    names = [column.key, column.name]
    if mapper is not None and column in mapper._columntoproperty:
        names.insert(0, mapper.get_property_by_column(column).key)
    return tuple(dict.fromkeys(names))
