"""Which rows a gathered read needs, from where, and in which database it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from router.errors import CrossShardError
from router.gather.labels import LABEL
from router.gather.pushdown import condition_on
from router.gather.top import Top, top_of
from router.hooks.statements import plain_table
from router.hooks.trace import Scope
from router.route.binds import Binding, BindTable, ReferenceTable, ShardedTable, UnshardedTable
from router.route.circumstances import Circumstances
from router.route.environment import layers
from router.route.facts import Facts
from router.route.keys import shards_of
from router.route.parameters import Parameters
from router.route.several import destinations_of
from router.route.shape import Shape
from router.route.target import Destination
from router.route.texts import is_plain_value
from router.shardmap.model import ShardedKeyspace, ShardMap

Backend = Callable[[str], str]
"""Returns the backend of a database, such as ``postgresql``."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The rows of one table that a statement needs, and where they are."""

    table: Table
    places: tuple[Destination, ...]
    homes: tuple[str, ...]
    """The databases that have the table."""
    columns: tuple[str, ...]
    condition: Any
    identified: bool
    """Whether no two places can hold the same primary key."""
    replicated: bool
    """Whether every home has all the rows."""
    top: Top | None = None

    def is_whole_in(self, database: str) -> bool:
        """Return whether all rows that are needed are in `database`, with all their columns."""
        if LABEL in self.columns:
            return False
        if self.replicated:
            return database in self.homes
        return database in self.homes and {at.database for at in self.places} <= {database}


@dataclass(frozen=True, slots=True, eq=False)
class GatherPlan:
    """The database where a statement runs, and the tables that are copied there."""

    host: str
    copied: tuple[Source, ...]
    in_place: tuple[Source, ...]
    max_rows: int
    joined: frozenset[tuple[str, str]]
    """Table and column of every equality between columns."""
    mentions: Mapping[str, int]
    """How often the statement names each copied table."""
    functions: frozenset[str]

    @property
    def databases(self) -> tuple[str, ...]:
        """The databases that rows are copied from."""
        return tuple(dict.fromkeys(at.database for one in self.copied for at in one.places))

    def steps(self) -> Iterable[str]:
        """Yield what is done, in order, in words."""
        for one in self.copied:
            places = ", ".join(at.name for at in one.places)
            only = " where its own conditions hold" if one.condition is not None else ""
            first = f", the first {one.top.rows} rows of each" if one.top is not None else ""
            columns = ", ".join(one.columns)
            yield f"copy {one.table.fullname} ({columns}) from {places}{only}{first}"
        for one in self.in_place:
            yield f"read {one.table.fullname} in place"
        yield f"run the statement in {self.host}, on the copies"


@dataclass(frozen=True, slots=True)
class Reading:
    """A statement as read, with the parameters of one execution and what it meets."""

    facts: Facts
    shape: Shape
    read: Parameters
    binds: BindTable
    around: Circumstances


def plan_gather(
    reading: Reading, backend: Backend, touched: Callable[[str], bool] = lambda _: False
) -> GatherPlan:
    """Return how to gather a statement.

    Parameters
    ----------
    touched:
        Whether the session has changes in a database that only its own connection sees.
    """
    facts, shard_map = reading.facts, reading.binds.shard_map
    tables = dict.fromkeys(one.table for one in facts.occurrences)
    sources = [_source(table, reading) for table in tables]
    host = _host(sources, shard_map, backend)
    here = [] if touched(host) else [one for one in sources if one.is_whole_in(host)]
    copied_schemas = {one.table.schema for one in sources if one not in here}
    # A schema's name is left out for all of its tables, or for none.
    here = [
        one for one in here if one.table.schema is None or one.table.schema not in copied_schemas
    ]
    copied = tuple(one for one in sources if one not in here)
    _check_names(copied, here)
    joined = {
        (facts.occurrences[ref.occurrence].table.fullname, ref.column)
        for _, region in facts.selects
        for known in region.certain()
        for same in known.equalities
        for ref in (same.left, same.right)
    }
    mentions = Counter(one.table.name for one in facts.occurrences)
    return GatherPlan(
        host,
        copied,
        in_place=tuple(here),
        max_rows=shard_map.gather_max_rows,
        joined=frozenset(joined),
        mentions=mentions,
        functions=frozenset(facts.trace.functions),
    )


def _source(table: Table, reading: Reading) -> Source:
    binding = reading.binds.of_table(table)
    homes = binding.databases if isinstance(binding, ReferenceTable) else _homes(binding)
    return Source(
        table,
        _places(binding, reading),
        homes,
        columns=_columns(table, reading.facts),
        condition=condition_on(table, reading.facts, reading.read.given),
        identified=not isinstance(binding, ShardedTable) or binding.identified,
        replicated=isinstance(binding, ReferenceTable),
        top=top_of(table, reading.facts, reading.read.given),
    )


def _homes(binding: ShardedTable | UnshardedTable) -> tuple[str, ...]:
    keyspace = binding.keyspace
    if isinstance(keyspace, ShardedKeyspace):
        return tuple(keyspace.shards.values())
    return (keyspace.database,)


def _places(binding: Binding, reading: Reading) -> tuple[Destination, ...]:
    if isinstance(binding, UnshardedTable):
        return (Destination(binding.keyspace.database),)
    if isinstance(binding, ReferenceTable):
        preferred = [name for name in reading.around.preferred if name in binding.databases]
        return (Destination((preferred or list(binding.databases))[0]),)
    name = binding.table.fullname
    mentions = [one for one in reading.shape.constraints if name in one.tables]
    found = (shards_of(one, reading.read, reading.around) for one in mentions)
    return destinations_of(binding.keyspace, frozenset().union(*found))


def _columns(table: Table, facts: Facts) -> tuple[str, ...]:
    """Return the columns of `table` that the statement mentions, or all if that is not known."""
    names = [column.name for column in table.columns]
    trace = facts.trace
    read = all(map(is_plain_value, trace.texts)) and not trace.operators and not trace.opaque
    if trace.whole_rows or not read or any(map(_is_star, trace.scopes)):
        labels = (LABEL,) if any(name == LABEL for _, name in trace.columns) else ()
        return (*names, *labels)
    used = {name for element, name in trace.columns if _table_of(element) is table}
    used.update(column.name for column in table.primary_key)
    labels = (LABEL,) if LABEL in used else ()
    known = used - {LABEL} <= set(names)
    return (*(n for n in names if n in used or not known), *labels)


def _is_star(scope: Scope) -> bool:
    """Return whether a SELECT shows every column, whatever there is."""
    shown = scope.select._raw_columns
    return any("*" in (getattr(one, "text", None), getattr(one, "name", None)) for one in shown)


def _table_of(element: Any) -> Table | None:
    if element is None:
        return None
    base = layers(element)[-1]
    return plain_table(base) if isinstance(base, Table) else None


# -- the database where the statement runs -------------------------------------------------------


def _host(sources: Iterable[Source], shard_map: ShardMap, backend: Backend) -> str:
    """Return the database that has the most of what is needed.

    Its backend is that of most of the tables, of the first mentioned if there is a tie.
    """
    sources = list(sources)
    backends = [backend(one.homes[0]) for one in sources]
    wanted = max(dict.fromkeys(backends), key=backends.count)
    names = [name for name in shard_map.databases if backend(name) == wanted]

    def rank(name: str) -> tuple[int, int]:
        whole = sum(one.is_whole_in(name) for one in sources)
        return whole, sum(name in one.homes for one in sources)

    return max(names, key=rank)


def _check_names(copied: Collection[Source], here: Collection[Source]) -> None:
    """Raise if the copies of two tables would have the same name."""
    names: dict[str, Table] = {}
    for one in (*copied, *here):
        other = names.setdefault(one.table.name, one.table)
        clash = other is not one.table and (one in copied or other.schema is None)
        if clash:
            what = f"{other.fullname} and {one.table.fullname} have the same name"
            fix = "read them one after another, or restrict the statement to one shard"
            raise CrossShardError("R303", what, fix=fix)
