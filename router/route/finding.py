"""UPDATE and DELETE that no shard can decide by itself: how their rows are found beforehand.

The rows are found by a SELECT of the same criteria, which is answered in any way that is
exact; then they are written by their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Select, Table, Update, and_, or_, select, tuple_
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter, Null, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

from router.hooks.dml import is_ordered, loader_options
from router.hooks.mappers import subject_of, tables_of
from router.hooks.statements import appendages, attribute_names, given_values, plain_table
from router.route.binds import ShardedTable, UnshardedTable
from router.route.parameters import plain_value
from router.route.transfers import is_copied
from router.route.transparency import ROW_FUNCTIONS
from router.route.writes import CLOCKS, REPEATED, irregular

_KNOWN = ROW_FUNCTIONS | CLOCKS | REPEATED

Located = ShardedTable | UnshardedTable
Values = Mapping[Column[Any], Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """How the rows of an UPDATE or DELETE are found, and what is found out about each.

    `query` selects the `keys`, then the columns that the criteria have `seen`, then the values
    of the `computed` columns, which are read from elsewhere.  `values` are all the new ones.
    """

    query: Select[Any]
    keys: tuple[Any, ...]
    seen: tuple[Any, ...]
    computed: tuple[Column[Any], ...]
    values: Values
    mapper: Mapper[Any] | None


def finding_of(statement: Any, binding: Located, *, moves: bool) -> Finding | None:
    """Return how the rows of a write are found, None if it cannot be done this way.

    Parameters
    ----------
    moves:
        Rows may get another shard, so that the new shard keys have to be known.
    """
    table, mapper = binding.table, subject_of(statement)
    if not table.primary_key or not _is_plain(statement, table, mapper):
        return None
    values = _values(statement, table, mapper) if isinstance(statement, Update) else {}
    if values is None or (moves and mapper is None):
        return None
    read: dict[Column[Any], Any] = {
        column: value
        for column, value in values.items()
        if isinstance(value, ClauseElement) and (moves or _has_to_be_read(value, table))
    }
    if not all(is_copied(value.type, column.type) for column, value in read.items()):
        return None
    shown = _shown_as(mapper)
    keys = dict.fromkeys([*table.primary_key, *_shard_key(binding)])
    criteria = statement._where_criteria
    seen = [one for one in _own_columns([*criteria, *read.values()], table) if one not in keys]
    named = [value.label(f"router_{at}") for at, value in enumerate(read.values())]
    query = select(*map(shown, keys), *map(shown, seen), *named).where(*criteria)
    return Finding(
        query.options(*loader_options(statement)),
        tuple(map(shown, keys)),
        tuple(map(shown, seen)),
        tuple(read),
        values,
        mapper,
    )


def _is_plain(statement: Any, table: Table, mapper: Mapper[Any] | None) -> bool:
    """Return whether nothing but criteria, values and own columns makes up the statement."""
    whole = mapper is None or len(tables_of(mapper)) == 1
    # Of an alias, the criteria are about the alias.
    named = statement.table is table or (mapper is not None and statement.table == table)
    own = all(
        not isinstance(one, SelectBase)
        and (not isinstance(one, Column) or plain_table(one.table) is table)
        for element in statement._returning
        for one in visitors.iterate(element)
    )
    appended = next(appendages(statement), None) is not None
    more = is_ordered(statement) or irregular(statement) or appended
    return whole and named and own and not more


def _shard_key(binding: Located) -> Iterator[Column[Any]]:
    if isinstance(binding, ShardedTable):
        yield from (one for one in binding.table.columns if one.name in binding.key)


def _shown_as(mapper: Mapper[Any] | None) -> Callable[[Column[Any]], Any]:
    """Return what gives the attribute of a column, or the column where it has none."""

    def shown(column: Column[Any]) -> Any:
        try:
            return getattr(mapper.class_, mapper.get_property_by_column(column).key)  # type: ignore[union-attr]
        except (AttributeError, UnmappedColumnError):
            return column

    return shown


def _values(statement: Update, table: Table, mapper: Mapper[Any] | None) -> Values | None:
    """Return the new value of each column; None where a name is not of a column."""
    names = {name: column for column in table.columns for name in attribute_names(mapper, column)}
    found: dict[Column[Any], Any] = {}
    for row in given_values(statement):
        for name, value in row.items():
            column = names.get(name) if isinstance(name, str) else _plain_column(name, table)
            if column is None:
                return None
            clause = getattr(value, "__clause_element__", None)
            found[column] = _plain(clause() if clause is not None else value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Null):
        return None
    return plain_value(value) if isinstance(value, BindParameter) else value


def _plain_column(name: Any, table: Table) -> Column[Any] | None:
    clause = name.__clause_element__() if hasattr(name, "__clause_element__") else name
    if not isinstance(clause, Column) or plain_table(clause.table) is not table:
        return None
    return next((one for one in table.columns if one.name == clause.name), None)


def _has_to_be_read(value: Any, table: Table) -> bool:
    """Return whether a shard that writes could not evaluate `value` for its own rows."""
    return any(
        isinstance(one, (SelectBase, TextClause))
        or (isinstance(one, Column) and plain_table(one.table) is not table)
        or (isinstance(one, FunctionElement) and one.name.lower() not in _KNOWN)
        for one in visitors.iterate(value)
    )


def _own_columns(clauses: Iterable[Any], table: Table) -> list[Column[Any]]:
    parts = (one for clause in clauses for one in visitors.iterate(clause))
    found = (_plain_column(one, table) for one in parts if isinstance(one, Column))
    return list(dict.fromkeys(one for one in found if one is not None))


def named_by(columns: Sequence[Any], keys: Sequence[tuple[Any, ...]]) -> Any:
    """Return the condition that a row has one of `keys`, some of which may have a NULL."""
    whole = [key for key in keys if None not in key]
    single = len(columns) == 1
    named = columns[0].in_([key[0] for key in whole]) if single else tuple_(*columns).in_(whole)
    others = [are_equal(columns, key) for key in keys if None in key]
    return or_(named, *others) if others else named


def are_equal(columns: Sequence[Any], key: Sequence[Any]) -> Any:
    """Return the condition that columns are a key, some parts of which may be NULL."""
    pairs = zip(columns, key, strict=True)
    return and_(*(column.is_(None) if part is None else column == part for column, part in pairs))
