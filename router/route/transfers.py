"""Where an INSERT ... SELECT goes: to the shards of its rows, or through the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Insert, Table
from sqlalchemy.sql import sqltypes

from router.hooks.statements import appendages, select_names
from router.route.binds import Binding, ReferenceTable, ShardedTable
from router.route.circumstances import Circumstances
from router.route.facts import Facts
from router.route.regions import ColumnRef
from router.route.shape import Shape
from router.route.target import Destination, Reach, Refusal, Target, Tier, refused
from router.route.writes import irregular, table_target

Read = Callable[[Any, Any, Circumstances], tuple[Target, Shape]]
Learn = Callable[[Any, Any], Facts]

_COPIED = (
    sqltypes.Integer,
    sqltypes.String,
    sqltypes.Numeric,
    sqltypes.Date,
    sqltypes.DateTime,
    sqltypes.Time,
    sqltypes.Boolean,
    sqltypes.Uuid,
    sqltypes.LargeBinary,
)
"""Types whose values are the same after they were read and written."""


class Transfers:
    """Finds the targets of INSERT ... SELECT.

    Parameters
    ----------
    binds:
        Resolves tables to keyspaces.
    plain:
        Routes the SELECT where its rows are taken one shard after another.
    read:
        Routes the SELECT in any way that is exact.
    learn:
        Returns what is known of the SELECT.
    """

    def __init__(self, binds: Any, plain: Read, read: Read, learn: Learn) -> None:
        self._binds = binds
        self._plain = plain
        self._read = read
        self._learn = learn

    def target(
        self, statement: Insert, binding: Binding, params: Any, around: Circumstances
    ) -> tuple[Target, Shape]:
        """Return where the rows that `statement` selects go."""
        select: Any = statement.select
        near = replace(around, preferred=self._homes(binding))
        found, shape = self._plain(select, params, near)
        if isinstance(binding, ShardedTable):
            # The values of unique keys have to be seen.
            within = found.refusal is None and not binding.unique
            if within and self._keeps_shards(statement, binding, params):
                fans = len(found.destinations) > 1
                if not fans:
                    return found, shape
                if not _generated(binding.table, statement) and irregular(statement) is None:
                    return replace(found, exact=Tier.FANNED, narrowing=None), shape
        elif found.refusal is None and found.reach is Reach.ONE:
            own = table_target(binding, around)
            here = {one.database for one in own.destinations}
            if here == {found.destinations[0].database}:
                return own, shape
        return self._through(statement, binding, params, around), shape

    def _homes(self, binding: Binding) -> list[str]:
        if isinstance(binding, ShardedTable):
            return []
        databases = getattr(binding, "databases", None)
        return list(databases or (binding.keyspace.database,))  # type: ignore[union-attr]

    # -- within the shards -----------------------------------------------------------------

    def _keeps_shards(self, statement: Any, binding: ShardedTable, params: Any) -> bool:
        """Return whether every new row has the shard key of a row it is made from."""
        facts = self._learn(statement.select, params)
        if not facts.selects:
            return False
        names = list(select_names(statement))
        columns = list(facts.selects[0][0].inner_columns)
        given = dict(zip(names, columns, strict=False))
        table = binding.table.columns
        keys = [next(one.key for one in table if one.name == name) for name in binding.key]
        if any(key not in given for key in keys):
            return False
        classes = facts.root.classes()
        found = [facts.environment.find(given[key]) for key in keys]
        wanted = [None if one is None else classes.find(one) for one in found]
        return any(wanted == mine for mine in self._keys(facts, binding))

    def _keys(self, facts: Facts, binding: ShardedTable) -> list[list[Any]]:
        joined, classes = facts.root.joined(), facts.root.classes()
        found = []
        for one in facts.occurrences:
            bound = self._binds.of_table(one.table)
            same = isinstance(bound, ShardedTable) and bound.keyspace is binding.keyspace
            if same and one.region in joined and facts.compounds == 0:
                refs = [ColumnRef(one.number, name) for name in bound.key]
                found.append([classes.find(ref) for ref in refs])
        return found

    # -- through the session ---------------------------------------------------------------

    def _through(
        self, statement: Any, binding: Binding, params: Any, around: Circumstances
    ) -> Target:
        table = binding.table
        found, _ = self._read(statement.select, params, replace(around, hint=None))
        if found.refusal is not None:
            return found
        if around.hint is not None:
            return refused("R305", f"the rows for {table.fullname} may belong elsewhere")
        reason = _unreadable(statement, table)
        if reason is not None:
            what = f"INSERT ... SELECT into {table.fullname} from another place: {reason}"
            fix = "read the rows first, then insert them"
            return Target(Reach.REFUSED, refusal=Refusal("R305", what, fix=fix))
        if isinstance(binding, ReferenceTable):
            column = next(_generated_by_database(table, statement), None)
            if column is not None:
                what = f"the value of {table.fullname}.{column} is generated for each copy"
                return refused("R308", what)
        reasons = ("the rows are read first, then inserted where their keys say",)
        return Target(Reach.SOME, self._places(binding), reasons, exact=Tier.TRANSFERRED)

    @staticmethod
    def _places(binding: Binding) -> tuple[Destination, ...]:
        if isinstance(binding, ShardedTable):
            keyspace = binding.keyspace
            pairs = keyspace.shards.items()
            return tuple(Destination(name, keyspace.shard_id(shard)) for shard, name in pairs)
        databases = getattr(binding, "databases", None)
        names: Sequence[str] = databases or (binding.keyspace.database,)  # type: ignore[union-attr]
        return tuple(Destination(name) for name in names)


def _generated(table: Table, statement: Any) -> bool:
    """Return whether columns that the SELECT does not give have defaults of SQLAlchemy's."""
    names = set(select_names(statement))
    missing = (column for column in table.columns if column.key not in names)
    return any(column.default is not None for column in missing)


def _generated_by_database(table: Table, statement: Any) -> Iterator[str]:
    """Yield the columns of a reference table that the SELECT leaves to each copy."""
    names = set(select_names(statement))
    for column in table.columns:
        default: Any = column.default
        counted = column is table.autoincrement_column or column.identity is not None
        made = column.server_default is not None or (
            default is not None and not default.is_scalar and not default.is_callable
        )
        if column.key not in names and (counted or made):
            yield column.name


def _unreadable(statement: Any, table: Table) -> str | None:
    """Return why rows that were read could not be inserted as they were, or None."""
    option = irregular(statement)
    if option is not None:
        return option
    if next(appendages(statement), None) is not None:
        return "it returns or uses more than columns"
    selected = list(statement.select.selected_columns)
    for name, column in zip(select_names(statement), selected, strict=False):
        target = table.columns.get(name)
        if target is None:
            return f"{name} is not the name of a column"
        if not is_copied(column.type, target.type):
            return f"the value of {name} may change between {column.type!r} and {target.type!r}"
    return None


def is_copied(source: Any, target: Any) -> bool:
    """Return whether a value of one type is the same after it was read and written as another."""
    for kind in _COPIED:
        if isinstance(source, kind) and isinstance(target, kind):
            plain = not isinstance(source, sqltypes.Enum) and not isinstance(target, sqltypes.Enum)
            floats = isinstance(source, sqltypes.Float) == isinstance(target, sqltypes.Float)
            return floats and (plain or repr(source) == repr(target))
    return False
