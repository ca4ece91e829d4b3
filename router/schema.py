"""Creating and dropping tables in the databases where the map puts them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ForeignKeyConstraint, MetaData, Table

from router.route.binds import ReferenceTable, ShardedTable
from router.session.wiring import Wiring


def create_all(wiring: Wiring) -> None:
    """Create what is missing, database by database."""
    for database, metadata, tables in _placed(wiring):
        metadata.create_all(wiring.engines[database], tables=tables)


def drop_all(wiring: Wiring) -> None:
    """Drop what is there, database by database."""
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
                yield database, *_reachable(metadata, tables)


def _reachable(metadata: MetaData, tables: list[Table]) -> tuple[MetaData, list[Table]]:
    """Return the tables without foreign keys to tables of other databases.

    Only then are they copies; the application's own tables, with their event listeners,
    are used wherever every foreign key stays within the database.
    """
    if not any(_leaves(key, tables) for table in tables for key in table.foreign_key_constraints):
        return metadata, tables
    copy = MetaData()
    copies = [table.to_metadata(copy) for table in tables]
    for table, original in zip(copies, tables, strict=True):
        gone = {
            key.name or tuple(key.column_keys)
            for key in original.foreign_key_constraints
            if _leaves(key, tables)
        }
        for key in table.foreign_key_constraints:
            if (key.name or tuple(key.column_keys)) in gone:
                _remove(table, key)
    return copy, copies


def _leaves(key: ForeignKeyConstraint, tables: list[Table]) -> bool:
    return key.referred_table not in tables


def _remove(table: Table, key: ForeignKeyConstraint) -> None:
    table.constraints.discard(key)
    for element in key.elements:
        table.foreign_keys.discard(element)
        element.parent.foreign_keys.discard(element)
