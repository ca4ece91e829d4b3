"""Entries of ``unique:`` against SQLAlchemy metadata: can a lookup table follow every write?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ForeignKeyConstraint, Table

from router.errors import Problem
from router.shardmap.findings import shown, suggestion
from router.shardmap.model import Unique

_QUIET = ("", "RESTRICT", "NO ACTION")


def unique_problems(entry: Unique, table: Table, key: Sequence[str]) -> Iterator[Problem]:
    """Yield why `table`, whose shard key is `key`, cannot have this unique key."""
    names = [column.name for column in table.columns]
    unknown = [name for name in entry.columns if name not in names]
    for name in unknown:
        what = f"the table {shown(entry.table)} has no column {shown(name)}"
        yield Problem("R127", what + suggestion(name, names), entry.where)
    if unknown:
        return
    if set(key) <= set(entry.columns):
        what = f"{_listed(entry.columns)} contains the shard key: "
        fix = "take the entry out, and let the table have a unique constraint"
        yield Problem("R127", what + "every shard can tell by itself", entry.where, fix)
    if not table.primary_key:
        what = f"the table {shown(entry.table)} has no primary key"
        yield Problem("R127", what, entry.where, "give the table a primary key")
    for name in _generated(table, entry.columns):
        what = f"the database or SQLAlchemy changes {shown(name)} by itself"
        fix = "have no Computed() and no onupdate in the column"
        yield Problem("R127", what, entry.where, fix)
    for constraint in _changed_by_the_database(table, {*entry.columns, *key}):
        parent = constraint.elements[0].target_fullname
        what = f"the database changes rows of {shown(entry.table)} when it cascades from {parent}"
        fix = "let the ORM cascade: relationship(cascade=...), and no ON DELETE or ON UPDATE"
        yield Problem("R127", what, entry.where, fix)


def _generated(table: Table, names: Sequence[str]) -> Iterator[str]:
    """Yield columns whose values change with others, or with every UPDATE."""
    for column in table.columns:
        changes = (column.computed, column.onupdate, column.server_onupdate)
        if column.name in names and any(one is not None for one in changes):
            yield column.name


def _changed_by_the_database(table: Table, columns: set[str]) -> Iterator[ForeignKeyConstraint]:
    primary = {column.name for column in table.primary_key}
    for constraint in table.foreign_key_constraints:
        own = {column.name for column in constraint.columns} & (columns | primary)
        delete = (constraint.ondelete or "").upper()
        update = (constraint.onupdate or "").upper()
        if delete == "CASCADE" or (own and not (delete in _QUIET and update in _QUIET)):
            yield constraint


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(shown, columns))
