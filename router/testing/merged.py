"""One database with the rows of all shards."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from sqlalchemy import Column, Engine, MetaData, PrimaryKeyConstraint, Table, insert, select

from router.testing.frozen import Freezer, Frozen

Rows = list[dict[str, Any]]


def fill(router: Any, engine: Engine) -> dict[str, int]:
    """Copy every row of the router's tables into `engine`; return the number of rows by table.

    The tables are made anew: columns and, where it holds over all shards, the primary key.
    Foreign keys, other constraints and defaults are left out, since nothing is written there.
    """
    tables = [table for metadata in _metadata(router) for table in metadata.sorted_tables]
    found = {table: list(_rows(router, table)) for table in tables}
    merged = MetaData()
    copies = {table: _copy(table, rows, merged) for table, rows in found.items()}
    merged.drop_all(engine)
    merged.create_all(engine)
    with engine.begin() as connection:
        for table, rows in found.items():
            if rows:
                connection.execute(insert(copies[table]), rows)
    return {table.fullname: len(rows) for table, rows in found.items()}


def values(router: Any, engine: Engine) -> frozenset[Hashable]:
    """Return the frozen texts and numbers in the one database."""
    freezer = Freezer()
    found: set[Frozen] = set()
    with engine.connect() as connection:
        for metadata in _metadata(router):
            for table in metadata.sorted_tables:
                for row in connection.execute(select(*table.c)):
                    found.update(map(freezer.value, row))
    return frozenset(value for value in found if value[0] in {"str", "Decimal", "float"})


def _metadata(router: Any) -> tuple[MetaData, ...]:
    return tuple(dict.fromkeys(router.wiring.metadata.values()))


def _rows(router: Any, table: Table) -> Iterator[dict[str, Any]]:
    columns = [column.label(f"c{number}") for number, column in enumerate(table.c)]
    for database in _databases(router, table):
        with router.engines[database].connect() as connection:
            for row in connection.execute(select(*columns)):
                yield {column.key: value for column, value in zip(table.c, row, strict=True)}


def _databases(router: Any, table: Table) -> tuple[str, ...]:
    # A cycle, were it imported with the module: what tests use stands beside the router.
    from router.route.binds import ReferenceTable
    from router.schema import databases_of

    every = databases_of(table, router.wiring)
    copied = isinstance(router.wiring.binds.of_table(table), ReferenceTable)
    return every[:1] if copied else every


def _copy(table: Table, rows: Rows, metadata: MetaData) -> Table:
    primary = [column.key for column in table.primary_key]
    keys = [tuple(row[name] for name in primary) for row in rows]
    unique = bool(primary) and len(set(keys)) == len(keys)
    columns = [
        Column(
            column.name,
            column.type,
            key=column.key,
            nullable=not (unique and column.primary_key),
            autoincrement=False,
        )
        for column in table.c
    ]
    constraints = [PrimaryKeyConstraint(*primary)] if unique else []
    return Table(table.name, metadata, *columns, *constraints, schema=table.schema)
