"""Entries of `unique:` in the map, and against metadata."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Computed, FetchedValue, ForeignKey, Integer, MetaData, String, Table

from router.shardmap.check import check_metadata
from router.shardmap.load import load_text
from tests.unit.shardmap.maps import problems, text

KEYSPACES = """\
one: { database: main }
shop:
  shards: { s0: a, s1: b }
  sharding: { function: hash }
  tables: { orders: id, items: order_id }
"""


def entry(**changes: Any) -> str:
    """Return a map with an entry (line 13) of the given fields."""
    fields = {"table": "items", "columns": "code", "keyspace": "one", **changes}
    shown = ", ".join(f"{key}: {value}" for key, value in fields.items())
    return text(KEYSPACES, f"unique:\n  code: {{ {shown} }}\n")


@pytest.mark.parametrize(
    ("changes", "id_", "what"),
    [
        ({"table": "item"}, "R127", "`item` is no sharded table; did you mean `items`?"),
        ({"keyspace": "two"}, "R111", "there is no keyspace `two`"),
        ({"keyspace": "shop"}, "R127", "the keyspace `shop` is sharded"),
        ({"columns": "[code, code]"}, "R127", "a column is there twice"),
        ({"columns": "[]"}, "R106", "expected at least 1 entry"),
        ({"column": "code"}, "R104", "unknown key `column`; did you mean `columns`?"),
    ],
)
def test_an_entry_that_is_wrong(changes: dict[str, str], id_: str, what: str) -> None:
    """Each problem with its place."""
    found = [one for one in problems(entry(**changes)) if one.id == id_]
    assert [one.what.startswith(what) for one in found] == [True]
    assert ":14:" in found[0].where


def test_another_dialect() -> None:
    """The lookup table compares values as the table does."""
    source = entry().replace("sqlite:///main.db", "postgresql://h/main")
    (found,) = problems(source)
    assert found.id == "R127"
    assert "different dialects: postgresql, sqlite" in found.what


def checked(*columns: Any, **changes: Any) -> list[str]:
    """Return what is wrong with the entry for a table with these columns."""
    metadata = MetaData()
    Table("orders", metadata, Column("id", Integer, primary_key=True))
    Table("items", metadata, *columns)
    shard_map = load_text(entry(**changes), "m")
    found = check_metadata(shard_map, {"main": metadata})
    assert {(one.id, one.where) for one in found} <= {("R127", "m:14:3")}
    return [one.what for one in found]


def columns(ondelete: str | None = None) -> list[Column[Any]]:
    """Return the columns of a table that can have the entry, but for a cascade."""
    order = ForeignKey("orders.id", ondelete=ondelete)
    return [
        Column("id", Integer, primary_key=True),
        Column("order_id", order),
        Column("code", String(9)),
    ]


def test_a_table_that_fits() -> None:
    """Nothing is wrong."""
    assert checked(*columns()) == []
    assert checked(*columns("RESTRICT"), columns="[code, id]") == []


def test_a_table_that_does_not_fit() -> None:
    """Each reason is told."""
    (unknown,) = checked(*columns(), columns="cod")
    assert unknown == "the table `items` has no column `cod`; did you mean `code`?"
    (contained,) = checked(*columns(), columns="[code, order_id]")
    assert contained == "`code`, `order_id` contains the shard key: every shard can tell by itself"
    (keyless,) = checked(Column("order_id", Integer), Column("code", String(9)))
    assert keyless == "the table `items` has no primary key"
    for action in ("CASCADE", "SET NULL"):
        (cascade,) = checked(*columns(action))
        assert cascade.startswith("the database changes rows of `items` when it cascades from ord")


def test_a_column_that_changes_by_itself() -> None:
    """No write would show its new value."""
    for code in (
        Column("code", String(9), Computed("id || ''")),
        Column("code", String(9), onupdate="x"),
        Column("code", String(9), server_onupdate=FetchedValue()),
    ):
        (found,) = checked(*columns()[:2], code)
        assert found == "the database or SQLAlchemy changes `code` by itself"
