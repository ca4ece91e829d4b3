"""Creating and dropping tables in the databases where the map puts them.

Leans on `SchemaGenerator` and `Engine._run_ddl_visitor`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from copy import copy
from functools import partial
from typing import Any

from sqlalchemy import Engine, ForeignKeyConstraint, MetaData, Sequence, Table
from sqlalchemy.sql.ddl import SchemaGenerator

from router.errors import RoutingError
from router.ids.sequences import StripedSequence
from router.route.binds import ReferenceTable, ShardedTable
from router.route.secondary import UniqueKey
from router.session.wiring import Wiring
from router.transaction import log


def create_all(wiring: Wiring) -> None:
    """Create what is missing, database by database, and the tables of directories and commits.

    Foreign keys to tables of other databases are left out.
    """
    for directory in wiring.directories.values():
        directory.create()
    if wiring.shard_map.two_phase and len(wiring.engines) > 1:
        for engine in wiring.engines.values():
            log.create(engine)
    _create_tables(wiring)
    for unique, shards in _unique(wiring):
        wiring.lookups.create(unique, shards)


def _create_tables(wiring: Wiring) -> None:
    for sequence, engine in _striped(wiring):
        with engine.begin() as connection:
            if not connection.dialect.supports_sequences:
                what = f"{connection.dialect.name} has no sequences, such as {sequence.name}"
                raise RoutingError("R806", what)
            sequence.create(connection, checkfirst=True)
    for database, metadata, tables in _placed(wiring):
        generator = partial(_WithinDatabase, within=tables)
        wiring.engines[database]._run_ddl_visitor(
            generator,  # type: ignore[arg-type]
            metadata,
            checkfirst=True,
            tables=tables,
        )


def drop_all(wiring: Wiring) -> None:
    """Drop what is there, database by database; the tables of directories and commits stay."""
    for unique, _ in _unique(wiring):
        wiring.lookups.drop(unique)
    for database, metadata, tables in _placed(wiring):
        metadata.drop_all(wiring.engines[database], tables=tables)


def databases_of(table: Table, wiring: Wiring) -> tuple[str, ...]:
    """Return the names of the databases that hold `table`."""
    binding = wiring.binds.of_table(table)
    if isinstance(binding, ReferenceTable):
        return binding.databases
    if isinstance(binding, ShardedTable):
        return tuple(binding.keyspace.shards.values())
    return (binding.keyspace.database,)


def _placed(wiring: Wiring) -> Iterator[tuple[str, MetaData, list[Table]]]:
    for metadata in dict.fromkeys(wiring.metadata.values()):
        homes = {table: databases_of(table, wiring) for table in metadata.tables.values()}
        for database in wiring.shard_map.databases:
            tables = [table for table, names in homes.items() if database in names]
            if tables:
                yield database, metadata, tables


def _unique(wiring: Wiring) -> Iterator[tuple[UniqueKey, list[Engine]]]:
    """Yield every unique key, and the engines of its table's shards."""
    for metadata in dict.fromkeys(wiring.metadata.values()):
        for table in metadata.tables.values():
            binding = wiring.binds.of_table(table)
            if isinstance(binding, ShardedTable):
                shards = [wiring.engines[name] for name in binding.keyspace.shards.values()]
                yield from ((unique, shards) for unique in binding.unique)


def _striped(wiring: Wiring) -> Iterator[tuple[Sequence, Engine]]:
    """Yield the sequence of every shard for each striped one, and the shard's engine."""
    for metadata in dict.fromkeys(wiring.metadata.values()):
        for table in metadata.tables.values():
            binding = wiring.binds.of_table(table)
            if not isinstance(binding, ShardedTable):
                continue
            for column in table.columns:
                striped: Any = column.default
                if isinstance(striped, StripedSequence):
                    for position, name in enumerate(binding.keyspace.shards.values()):
                        yield striped.for_shard(position), wiring.engines[name]


class _WithinDatabase(SchemaGenerator):
    """Creates tables without those foreign keys that would leave the database."""

    def __init__(self, *args: Any, within: Collection[Table], **kw: Any) -> None:
        super().__init__(*args, **kw)  # type: ignore[no-untyped-call]
        self._within = within
        self._alters = self.dialect.supports_alter
        # Told that it cannot alter, the base class gives a table every foreign key.
        self.dialect = copy(self.dialect)
        self.dialect.supports_alter = True

    def visit_table(  # type: ignore[override]
        self,
        table: Table,
        create_ok: bool = False,
        include_foreign_key_constraints: Iterable[ForeignKeyConstraint] | None = None,
        **kw: Any,
    ) -> None:
        """Create `table`; see the base class."""
        keys = include_foreign_key_constraints
        if keys is None or not self._alters:
            keys = table.foreign_key_constraints
        kept = {key for key in keys if key.referred_table in self._within}
        super().visit_table(table, create_ok, kept, **kw)  # type: ignore[no-untyped-call]

    def visit_foreign_key_constraint(self, constraint: ForeignKeyConstraint) -> None:
        """Add a foreign key that could not be part of its table; see the base class."""
        if self._alters and constraint.referred_table in self._within:
            super().visit_foreign_key_constraint(constraint)  # type: ignore[no-untyped-call]
