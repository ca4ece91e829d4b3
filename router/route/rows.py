"""The shard keys of the rows that an INSERT writes, or that a bulk UPDATE names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import BindParameter, ClauseElement, Null

from router.errors import RoutingError
from router.hooks.mappers import setting_names
from router.hooks.statements import attribute_names, given_values
from router.route.binds import ShardedTable
from router.route.circumstances import Locate
from router.route.keys import wrong_key
from router.route.parameters import plain_value
from router.route.predicates import Null as NullKey
from router.shardmap.functions.protocol import NoShardError
from router.shardmap.keytypes import KeyValueError

_PLAIN = frozenset((int, str, float, bool, bytes, type(None), Decimal, date, datetime, UUID))
"""Classes of values that are no SQL."""


def parameter_rows(params: Any) -> Sequence[Mapping[Any, Any]]:
    """Return the rows that an execution's parameters are, of one or of many."""
    if isinstance(params, (list, tuple)):
        return params
    return [params] if params else []


def rows_of(statement: Any, params: Any) -> list[Mapping[Any, Any]]:
    """Return the rows of an INSERT: its VALUES, each completed by the parameters."""
    given = list(given_values(statement))
    if isinstance(params, (list, tuple)):
        base = given[0] if given else {}
        return [{**base, **row} for row in params]
    if params:
        return [{**row, **params} for row in given or [{}]]
    return given or [{}]


def names_of(table: Table, mapper: Mapper[Any] | None) -> frozenset[str]:
    """Return the names by which an execution may give values to the columns of a table."""
    return frozenset(n for column in table.columns for n in attribute_names(mapper, column))


def expressions_of(rows: Iterable[Mapping[Any, Any]]) -> Iterator[ClauseElement]:
    """Yield the SQL expressions among the values of `rows`."""
    for row in rows:
        for value in row.values():
            if value.__class__ in _PLAIN:
                continue
            if hasattr(value, "__clause_element__"):
                value = value.__clause_element__()
            if isinstance(value, ClauseElement) and not isinstance(value, (BindParameter, Null)):
                yield value


class KeyReader:
    """Reads the shard key of a row of one table.

    Parameters
    ----------
    binding:
        The table and its key.
    mapper:
        The mapper whose attribute names the rows use, for ORM statements.
    """

    def __init__(self, binding: ShardedTable, mapper: Mapper[Any] | None) -> None:
        self.binding = binding
        columns = {column.name: column for column in binding.table.columns}
        self.columns = [columns[name] for name in binding.key]
        self._names = [attribute_names(mapper, column) for column in self.columns]
        self._setting = [setting_names(mapper, column) for column in self.columns]
        self._carried = [(one, _all_names(mapper, one.column)) for one in binding.carried]

    def key(self, row: Mapping[Any, Any]) -> tuple[Any, ...]:
        """Return the normalised key of `row`, `Null.NULL` for a NULL in it.

        Raises
        ------
        RoutingError
            The row gives no key, or one of the wrong type.
        """
        key = self.normalise(
            tuple(self._value(row, at, column) for at, column in enumerate(self.columns))
        )
        for carried, names in self._carried:
            given = [name for name in row if name in names or is_column(name, carried.column)]
            for value in (self._plain(row[name], row, carried.column) for name in given):
                if value is not None:
                    carried.check(value, key)
        return key

    def normalise(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return `values` as a key; raise `RoutingError` for a wrong type."""
        return tuple([self._normalise(position, value) for position, value in enumerate(values)])

    def names(self, at: int) -> tuple[str, ...]:
        """Return the names under which rows may give the key's column at a position."""
        return (*self._names[at], *self._setting[at])

    def names_key(self, names: Iterable[Any]) -> bool:
        """Return whether any of `names` (columns, or names of columns) says where a row is."""
        mine = {name for names_ in (*self._names, *self._setting) for name in names_}
        mine |= {name for _, names_ in self._carried for name in names_}
        columns = [*self.columns, *(one.column for one, _ in self._carried)]
        mine |= {column.name for column in columns} | {column.key for column in columns}
        return any(
            one in mine if isinstance(one, str) else any(is_column(one, c) for c in columns)
            for one in names
        )

    def _value(self, row: Mapping[Any, Any], at: int, column: Column[Any]) -> Any:
        names = self._names[at]
        for other in self._setting[at]:
            if other in row:
                raise self._unclear(column, f"may be set by {other!r}, too")
        found = [row[name] for name in names if name in row]
        found += [value for given, value in row.items() if is_column(given, column)]
        values = [self._plain(value, row, column) for value in found]
        if not values:
            return default_of(column, self.binding)
        if any(value != values[0] for value in values):
            raise self._unclear(column, "is given twice, with different values")
        if names[0] not in row and len(names) > 1 and names[1] in row:
            # The ORM drops what is not named by an attribute, or takes it for the column.
            raise self._unclear(column, f"is named {names[1]!r}, not {names[0]!r}")
        if values[0] is None and (column.default or column.server_default) is not None:
            raise self._unclear(column, "is NULL, for which its default may be put")
        return values[0]

    def _unclear(self, column: Column[Any], what: str) -> RoutingError:
        name = f"{self.binding.table.fullname}.{column.name}"
        return RoutingError("R202", f"the shard key {name} {what}", fix="give the key once")

    def _plain(self, value: Any, row: Mapping[Any, Any], column: Column[Any]) -> Any:
        if isinstance(value, BindParameter):
            if value.key in row and row[value.key] is not value:
                return self._plain(row[value.key], row, column)
            value = plain_value(value)
        if isinstance(value, Null):
            return None
        if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
            table = self.binding.table.fullname
            what = f"the shard key {table}.{column.name} is computed by the database"
            raise RoutingError("R202", what, fix="compute the shard key in Python and pass it")
        return value

    def _normalise(self, position: int, value: Any) -> Any:
        if value is None:
            return NullKey.NULL
        binding = self.binding
        try:
            return binding.types[position].normalise(value)
        except KeyValueError as error:
            names = (binding.table.fullname,)
            raise wrong_key(binding.keyspace, names, binding.key, position, error) from error


def is_given(column: Column[Any], given: Iterable[Any], mapper: Mapper[Any] | None) -> bool:
    """Return whether `column` may be among what a row gives: columns, or names of them."""
    return _is_among(given, column, attribute_names(mapper, column))


def is_left_out(column: Column[Any], given: Iterable[Any], mapper: Mapper[Any] | None) -> bool:
    """Return whether a row may get the default of `column`, as far as names tell."""
    # Of many rows, the ORM drops what is not named by an attribute.
    return not _is_among(given, column, attribute_names(mapper, column)[:1])


def _is_among(given: Iterable[Any], column: Column[Any], names: Sequence[str]) -> bool:
    return any(one in names if isinstance(one, str) else is_column(one, column) for one in given)


def _all_names(mapper: Mapper[Any] | None, column: Column[Any]) -> tuple[str, ...]:
    return (*attribute_names(mapper, column), *setting_names(mapper, column))


def is_column(given: Any, column: Column[Any]) -> bool:
    """Return whether `given`, by which a row names a value, is `column` itself."""
    if isinstance(given, str):
        return False
    element = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    return bool(column.shares_lineage(element))


def default_of(column: Column[Any], binding: ShardedTable) -> Any:
    """Return the value a row without one gets; raise if only the database could tell."""
    default: Any = column.default
    if default is not None and default.is_scalar:
        return default.arg
    generated = default is not None or column.server_default is not None
    if generated or column.autoincrement is True or not column.nullable:
        what = f"the row gives no shard key {binding.table.fullname}.{column.name}"
        raise RoutingError("R202", what, fix="give the row its shard key before it is written")
    return None


def shard_of_row(key: tuple[Any, ...], binding: ShardedTable, locate: Any) -> str:
    """Return the shard where a row of `key` belongs; raise `RoutingError` if it has none."""
    keyspace = binding.keyspace
    if NullKey.NULL in key:
        if keyspace.null_shard is None:
            key_names = " and ".join(binding.key)
            what = f"a row of {binding.table.fullname} has a NULL shard key {key_names}"
            raise RoutingError("R205", what, where=_where(binding))
        return keyspace.null_shard
    try:
        shard: str = locate(keyspace, key)
    except NoShardError as error:
        what = f"{binding.table.fullname}: no shard of {keyspace.name} takes the key {key!r}"
        raise RoutingError("R207", what, where=_where(binding)) from error
    return shard


def _where(binding: ShardedTable) -> str:
    return binding.keyspace.table_where.get(binding.table.fullname, binding.keyspace.where)


def homes_of_rows(
    binding: ShardedTable, rows: Sequence[Mapping[Any, Any]], mapper: Any, locate: Locate
) -> list[str]:
    """Return the shard of each row, asking once for keys that are there several times."""
    reader = KeyReader(binding, mapper)
    plain = _plain_name(reader, rows) if not binding.carried else None
    if plain is None:
        return [shard_of_row(reader.key(row), binding, locate) for row in rows]
    keyspace, normalise = binding.keyspace, binding.types[0].normalise
    # Of these types equal values are equal keys: True is 1, and 1.0, too.
    known: dict[type, dict[Any, str]] = {int: {}, str: {}}
    homes = []
    for row in rows:
        given = row[plain]
        homes_of_type = known.get(given.__class__)
        if homes_of_type is None:
            homes.append(shard_of_row(reader.key(row), binding, locate))
            continue
        home = homes_of_type.get(given)
        if home is None:
            try:
                home = locate(keyspace, (normalise(given),))
            except (KeyValueError, NoShardError):
                home = shard_of_row(reader.key(row), binding, locate)
            homes_of_type[given] = home
        homes.append(home)
    return homes


def _plain_name(reader: KeyReader, rows: Sequence[Mapping[Any, Any]]) -> str | None:
    """Return the one name under which every row gives the key, if there is such a name."""
    if len(reader.columns) != 1:
        return None
    names = reader.names(0)
    shapes = {tuple(row) for row in rows}
    # Columns first: comparing one with a name would make an expression of both.
    clear = all(
        all(name.__class__ is str for name in shape)
        and names[0] in shape
        and not any(name in shape for name in names[1:])
        for shape in shapes
    )
    return names[0] if clear else None
