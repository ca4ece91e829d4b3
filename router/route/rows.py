"""The shard keys of the rows that an INSERT writes, or that a bulk UPDATE names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import BindParameter, ClauseElement, Null

from router.errors import RoutingError
from router.hooks.statements import attribute_names, given_values
from router.route.aim import wrong_key
from router.route.binds import ShardedTable
from router.route.predicates import Null as NullKey
from router.shardmap.functions.protocol import NoShardError
from router.shardmap.keytypes import KeyValueError

_ABSENT = object()


def rows_of(statement: Any, params: Any) -> list[Mapping[Any, Any]]:
    """Return the rows of an INSERT: its VALUES, each completed by the parameters."""
    given = list(given_values(statement))
    if isinstance(params, (list, tuple)):
        base = given[0] if given else {}
        return [{**base, **row} for row in params]
    if params:
        return [{**row, **params} for row in given or [{}]]
    return given or [{}]


def expressions_of(rows: Iterable[Mapping[Any, Any]]) -> Iterator[ClauseElement]:
    """Yield the SQL expressions among the values of `rows`."""
    for row in rows:
        for value in row.values():
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

    def key(self, row: Mapping[Any, Any]) -> tuple[Any, ...]:
        """Return the normalised key of `row`, `Null.NULL` for a NULL in it.

        Raises
        ------
        RoutingError
            The row gives no key, or one of the wrong type.
        """
        return self.normalise(
            tuple(self._value(row, at, column) for at, column in enumerate(self.columns))
        )

    def normalise(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return `values` as a key; raise `RoutingError` for a wrong type."""
        return tuple([self._normalise(position, value) for position, value in enumerate(values)])

    def names_key(self, names: Iterable[Any]) -> bool:
        """Return whether any of `names` (columns, or names of columns) is part of the key."""
        mine = {name for names_ in self._names for name in names_}
        return any(_name(one) in mine for one in names)

    def _value(self, row: Mapping[Any, Any], at: int, column: Column[Any]) -> Any:
        found: Any = _ABSENT
        for given, value in row.items():
            if _name(given) in self._names[at]:
                found = value
        if found is _ABSENT:
            found = default_of(column, self.binding)
        return self._plain(found, column)

    def _plain(self, value: Any, column: Column[Any]) -> Any:
        if isinstance(value, BindParameter):
            return value.effective_value
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


def _name(given: Any) -> Any:
    if isinstance(given, str):
        return given
    return getattr(given, "key", None)


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
    where = keyspace.table_where.get(binding.table.fullname, keyspace.where)
    if NullKey.NULL in key:
        if keyspace.null_shard is None:
            key_names = " and ".join(binding.key)
            what = f"a row of {binding.table.fullname} has a NULL shard key {key_names}"
            raise RoutingError("R205", what, where=where)
        return keyspace.null_shard
    try:
        shard: str = locate(keyspace, key)
    except NoShardError as error:
        what = f"{binding.table.fullname}: no shard of {keyspace.name} takes the key {key!r}"
        raise RoutingError("R207", what, where=where) from error
    return shard
