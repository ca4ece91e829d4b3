"""A map against metadata."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.dialects import mysql

from router.shardmap.check import check_metadata
from router.shardmap.load import load_text
from tests.unit.shardmap.maps import shop, text

MYSQL = "mysql+pymysql://h/"


def tables(**columns: Any) -> MetaData:
    """Return metadata: table = type of its column `k`."""
    metadata = MetaData()
    for name, sa_type in columns.items():
        schema, _, table = name.rpartition("__")
        Table(table, metadata, Column("k", sa_type), Column("v", sa.Text), schema=schema or None)
    return metadata


def checked(source: str, **metadata: MetaData) -> list[tuple[str, str, str]]:
    """Return id, place and sentence of every problem."""
    shard_map = load_text(source, "m")
    return [(p.id, p.where, p.what) for p in check_metadata(shard_map, metadata)]


def keyed(listed: str, sharding: str = "{ function: hash }") -> str:
    """Return a map whose keyspace `shop` lists these tables (line 10)."""
    return shop(sharding, f"{{ {listed} }}")


def test_a_map_that_fits() -> None:
    """Tables are found with and without a schema; strangers and absentees are no problem."""
    source = keyed("a: k, s.b: k, elsewhere_altogether: k")
    metadata = tables(a=sa.Integer(), s__b=sa.BigInteger(), stranger=sa.Float())
    assert checked(source, main=metadata) == []
    assert checked(source) == []


def test_a_column_that_the_table_does_not_have() -> None:
    """R121 suggests a column and points at the table of the map."""
    metadata = MetaData()
    Table("orders", metadata, Column("customer_id", sa.Integer))
    assert checked(keyed("orders: custmer_id"), main=metadata) == [
        (
            "R121",
            "m:10:15",
            "the table `orders` has no column `custmer_id`; did you mean `customer_id`?",
        )
    ]


def test_a_table_of_several_metadata_is_checked_in_each() -> None:
    """The same name may stand for different tables; all must have the key."""
    found = checked(keyed("a: k"), x=tables(a=sa.Integer()), y=tables(a=sa.Float()))
    assert [id_ for id_, _, _ in found] == ["R122"]


def test_a_type_that_cannot_be_a_key() -> None:
    """R122 gives the reason of the type."""
    assert checked(keyed("a: k"), main=tables(a=sa.Float())) == [
        (
            "R122",
            "m:10:15",
            "`a`, column `k`: Float cannot be a shard key: floating point numbers are not exact",
        )
    ]


RISKS = [
    ("sqlite:///", sa.Numeric(10, 2), "SQLite keeps decimals as floating point numbers"),
    ("sqlite:///", sa.DateTime(timezone=True), "only PostgreSQL keeps timestamps with a time zone"),
    (MYSQL, sa.DateTime(timezone=True), "MySQL rounds to whole seconds"),
    (MYSQL, sa.DateTime(), "MySQL rounds to whole seconds"),
    (MYSQL, mysql.TIMESTAMP(fsp=6), "MySQL converts TIMESTAMP by the time zone"),
    (MYSQL, sa.Numeric(), "MySQL rounds decimals to whole numbers"),
]


@pytest.mark.parametrize(("url", "sa_type", "reason"), RISKS, ids=repr)
def test_types_that_a_dialect_does_not_keep(url: str, sa_type: Any, reason: str) -> None:
    """What PostgreSQL keeps exactly, others round or convert."""
    source = keyed("a: k").replace("sqlite:///", url)
    (problem,) = checked(source, main=tables(a=sa_type))
    assert problem[:2] == ("R122", "m:10:15")
    assert problem[2].startswith(f"`a`, column `k`: {reason}")
    on_postgresql = keyed("a: k").replace("sqlite:///", "postgresql+psycopg://h/")
    assert checked(on_postgresql, main=tables(a=sa_type)) == []


@pytest.mark.parametrize(
    "sa_type", [sa.Numeric(10, 2), mysql.DATETIME(fsp=6), sa.Integer()], ids=repr
)
def test_types_that_mysql_keeps(sa_type: Any) -> None:
    """The remedies in the messages are accepted."""
    assert checked(keyed("a: k").replace("sqlite:///", MYSQL), main=tables(a=sa_type)) == []


def test_keys_of_different_types() -> None:
    """R123: equal keys must be equal in all tables of a keyspace."""
    metadata = tables(a=sa.Integer(), b=sa.String(5), c=sa.BigInteger())
    assert checked(keyed("a: k, b: k, c: k"), main=metadata) == [
        ("R123", "m:10:21", "the key of `b` is text, but the key of `a` is a number")
    ]


def test_whole_and_fractional_numbers_are_of_one_type() -> None:
    """5 and Decimal(5) are one key, so their columns go together."""
    source = keyed("a: k, b: k").replace("sqlite:///", "postgresql+psycopg://h/")
    assert checked(source, main=tables(a=sa.Integer(), b=sa.Numeric(10, 2))) == []


MISFITS = [
    ("{ function: modulo }", sa.String(5), "text: `modulo` takes keys of one integer"),
    (
        "{ function: range, ranges: [{ to: 5, shard: s0 }, { shard: s1 }] }",
        sa.String(5),
        "text: the bounds are a number",
    ),
    (
        "{ function: range, ranges: [{ shard: s0 }] }",
        sa.Uuid(),
        "a UUID: `range` takes integers, decimals, text, dates and timestamps",
    ),
    (
        "{ function: list, values: { s0: [a] } }",
        sa.Integer(),
        "a number: the listed keys are text",
    ),
    (
        "{ function: directory, database: main, place: { function: modulo } }",
        sa.Date(),
        "a date: `modulo` takes keys of one integer",
    ),
]


@pytest.mark.parametrize(("sharding", "sa_type", "what"), MISFITS, ids=repr)
def test_keys_that_the_function_does_not_take(sharding: str, sa_type: Any, what: str) -> None:
    """R119 before the first row, not with it."""
    assert checked(keyed("a: k", sharding), main=tables(a=sa_type)) == [
        ("R119", "m:10:15", f"the key of `a` is {what}")
    ]
    assert checked(keyed("a: k", "{ function: hash }"), main=tables(a=sa_type)) == []


def test_metadata_that_was_not_given() -> None:
    """R124 names what the map binds and the program did not pass."""
    source = text("one: { database: a }", "binds: { metadata: { shop: one } }")
    assert checked(source, shpo=MetaData()) == [
        ("R124", "m:8:22", "no metadata was given as `shop`; did you mean `shpo`?")
    ]
    assert checked(source, shop=MetaData()) == []


def test_a_misspelt_table() -> None:
    """R125 only if the metadata has a close name that the map lists nowhere."""
    source = keyed("order: k, t: k")
    found = checked(source, main=tables(orders=sa.Integer()))
    assert found == [
        ("R125", "m:10:15", "the metadata has no table `order`; did you mean `orders`?")
    ]
    listed = keyed("order: k, orders: k")
    assert checked(listed, main=tables(orders=sa.Integer())) == []


def test_misspelt_reference_tables_and_binds() -> None:
    """All places of the map that name tables are looked at."""
    source = text(
        "shop: { shards: { s0: a }, sharding: { function: hash }, reference_tables: [countris] }",
        "binds: { tables: { audit.evnts: shop } }",
    )
    found = checked(source, main=tables(countries=sa.Text(), audit__events=sa.Text()))
    assert [(id_, where) for id_, where, _ in found] == [("R125", "m:8:20"), ("R125", "m:7:79")]


def test_composite_keys_are_compared_column_by_column() -> None:
    """The order of the key columns counts."""
    metadata = MetaData()
    for name in ("x", "y"):
        Table(name, metadata, Column("n", sa.Integer), Column("t", sa.Text))
    assert checked(keyed("x: [n, t], y: [n, t]"), main=metadata) == []
    (problem,) = checked(keyed("x: [n, t], y: [t, n]"), main=metadata)
    assert problem[0] == "R123"
    assert (
        problem[2] == "the key of `y` is text and a number, but the key of `x` is a number and text"
    )
