"""Every kind of problem, with its line and column."""

from __future__ import annotations

import pytest

from router.catalogue import CATALOGUE
from tests.unit.shardmap.maps import HEAD, found, shop, text

TWO = "shards: { s0: a, s1: b }, sharding: { function: hash }"

NAME_RULE = (
    "this is no name: names have letters, digits, `_`, `-` and `.`, at most 64, "
    "not starting with `-` or `.`"
)

CASES: dict[str, tuple[str, str, str, str]] = {
    # -- YAML ---------------------------------------------------------------------------
    "empty": ("", "R102", "1:1", "the map is empty"),
    "only a comment": ("# nothing\n", "R102", "1:1", "the map is empty"),
    "a list": ("- 1\n", "R102", "1:1", "expected a mapping"),
    "syntax": (
        "a: 1\nb: {\n",
        "R102",
        "3:1",
        "while parsing a flow node expected the node content, but found '<stream end>'",
    ),
    "control character": ("a: \x07\n", "R102", "1:4", "a character that YAML does not allow"),
    "undefined alias": (HEAD + "x: *secret\n", "R102", "6:4", "found undefined alias"),
    "two documents": (
        "a: 1\n---\nb: 1\n",
        "R102",
        "2:1",
        "expected a single document in the stream but found another document",
    ),
    "tag": (HEAD + "keyspaces: !!set {}\n", "R102", "6:12", "tags are not allowed here"),
    "number as key": (text("5: {}"), "R106", "7:3", 'a key is text: write "5" in quotes'),
    "duplicate key": (
        text("one: { database: a }\none: { database: b }"),
        "R103",
        "8:3",
        "`one` is here twice: first in line 7, column 3",
    ),
    "impossible date": (
        shop("{ function: list, values: { s0: [2024-02-30] } }"),
        "R106",
        "9:48",
        "this is not a date",
    ),
    # -- structure ----------------------------------------------------------------------
    "unknown top key": (
        HEAD + "keyspces: {}\n",
        "R104",
        "6:1",
        "unknown key `keyspces`; did you mean `keyspaces`?",
    ),
    "unknown without suggestion": (
        text("one: { database: a }", "zzz: 1"),
        "R104",
        "8:1",
        "unknown key `zzz`",
    ),
    "missing version": ("databases: {}\nkeyspaces: {}\n", "R105", "1:1", "`version` is missing"),
    "missing keyspaces": (HEAD, "R105", "1:1", "`keyspaces` is missing"),
    "missing sharding": (
        text("one: { shards: { s0: a } }"),
        "R105",
        "7:3",
        "`sharding` is missing",
    ),
    "no shards": (
        text("one: { shards: {}, sharding: { function: hash } }"),
        "R106",
        "7:18",
        "expected at least 1 entry",
    ),
    "text for a mapping": (text("one: a"), "R106", "7:8", "expected a mapping, got text"),
    "nothing for a mapping": (text("one:"), "R106", "7:7", "expected a mapping, got nothing"),
    "number for text": (
        text("one: { database: 5 }"),
        "R106",
        "7:20",
        "expected text, got an integer",
    ),
    "no columns": (
        shop("{ function: hash }", "{ orders: [] }"),
        "R106",
        "10:23",
        "expected at least 1 entry",
    ),
    "both kinds": (
        text(f"one: {{ database: a, {TWO} }}"),
        "R104",
        "7:10",
        "unknown key `database`",
    ),
    "scatter": (
        text("one: { database: a }", "scatter: maybe"),
        "R106",
        "8:10",
        "expected 'allow' or 'deny'",
    ),
    "max_rows": (
        text("one: { database: a }", "gather: { max_rows: -1 }"),
        "R106",
        "8:21",
        "expected at least 0",
    ),
    "fraction": (
        text("one: { database: a }", "gather: { max_rows: 1.5 }"),
        "R106",
        "8:21",
        "expected an integer, got a decimal number",
    ),
    "class": (
        text("one: { database: a }", "binds: { classes: { Base: one } }"),
        "R106",
        "8:21",
        "expected a class: package.module:Class",
    ),
    "bad name": (
        text("one: { shards: { s/0: a }, sharding: { function: hash } }"),
        "R109",
        "7:20",
        NAME_RULE,
    ),
    # -- environment --------------------------------------------------------------------
    "missing variable": (
        text('one: { database: "${NO_SUCH}" }'),
        "R107",
        "7:20",
        "the environment variable NO_SUCH is not set",
    ),
    "malformed variable": (
        text('one: { database: "${" }'),
        "R107",
        "7:20",
        "`${` without a name and `}`",
    ),
    # -- URLs ---------------------------------------------------------------------------
    "no URL": (
        HEAD.replace("sqlite:///a.db", "x") + "keyspaces: {}",
        "R108",
        "4:13",
        "this is not a URL that SQLAlchemy understands",
    ),
    "port": (
        HEAD.replace("sqlite:///a.db", "mysql://h:port/x") + "keyspaces: {}",
        "R108",
        "4:13",
        "this is not a URL that SQLAlchemy understands",
    ),
    "dialect": (
        HEAD.replace("sqlite:///a.db", "postgres://h/x") + "keyspaces: {}",
        "R108",
        "4:13",
        "SQLAlchemy has no dialect `postgres`; did you mean `postgresql`?",
    ),
    "at sign": (
        HEAD.replace("sqlite:///a.db", "postgresql://u:p@ss@h/x") + "keyspaces: {}",
        "R108",
        "4:13",
        "the host has an `@`: write an `@` in a password as `%40`",
    ),
    "hidden password": (
        HEAD.replace("sqlite:///a.db", "postgresql://u:***@h/x") + "keyspaces: {}",
        "R108",
        "4:13",
        "the password is `***`: use URL.render_as_string(hide_password=False)",
    ),
    # -- names of other things ----------------------------------------------------------
    "database of a keyspace": (
        text("one: { database: mian }"),
        "R110",
        "7:20",
        "there is no database `mian`; did you mean `main`?",
    ),
    "database of a shard": (
        text("one: { shards: { s0: c }, sharding: { function: hash } }"),
        "R110",
        "7:24",
        "there is no database `c`",
    ),
    "keyspace of a bind": (
        text("one: { database: a }", 'binds: { classes: { "a.b:C": on } }'),
        "R111",
        "8:30",
        "there is no keyspace `on`; did you mean `one`?",
    ),
    "default keyspace": (
        text("one: { database: a }", "binds: { default: two }"),
        "R111",
        "8:19",
        "there is no keyspace `two`",
    ),
    "null shard": (
        shop("{ function: hash, null_shard: s2 }"),
        "R112",
        "9:45",
        "the keyspace has no shard `s2`",
    ),
    # -- one place for everything -------------------------------------------------------
    "table in two keyspaces": (
        text(f"one: {{ {TWO}, tables: {{ t: id }} }}\ntwo: {{ {TWO}, tables: {{ t: id }} }}"),
        "R113",
        "8:76",
        "the table `t` is already listed under keyspace `one`",
    ),
    "bound table": (
        text(f"one: {{ {TWO}, tables: {{ t: id }} }}", "binds: { tables: { t: one } }"),
        "R113",
        "8:20",
        "the table `t` is already listed under keyspace `one`",
    ),
    "bound reference table": (
        text(f"one: {{ {TWO}, reference_tables: [t] }}", "binds: { tables: { t: one } }"),
        "R113",
        "8:20",
        "the table `t` is already listed under keyspace `one`",
    ),
    "sharded and copied": (
        text(f"one: {{ {TWO}, tables: {{ t: id }}, reference_tables: [t] }}"),
        "R113",
        "7:104",
        "the table `t` is already listed under keyspace `one`",
    ),
    "copied twice": (
        text(f"one: {{ {TWO}, reference_tables: [t, t] }}"),
        "R113",
        "7:88",
        "the table `t` is already listed under keyspace `one`",
    ),
    "two shards, one database": (
        text("one: { shards: { s0: a, s1: a }, sharding: { function: hash } }"),
        "R114",
        "7:31",
        "`s1` is in the same database as `s0`",
    ),
    "two names, one database": (
        text("one: { shards: { s0: a, s1: b }, sharding: { function: hash } }").replace(
            "b.db", "a.db"
        ),
        "R114",
        "7:31",
        "`s1` is in the same database as `s0`: the URLs of `b` and `a` lead to one place",
    ),
    "dialects": (
        text(f"one: {{ {TWO} }}").replace("sqlite:///b.db", "mysql+pymysql://h/b"),
        "R115",
        "7:10",
        "different dialects: `a` is sqlite, `b` is mysql",
    ),
    "dialect of a replica": (
        HEAD.replace('"sqlite:///a.db"', '"sqlite:///a.db", replicas: ["mysql+pymysql://h/b"]')
        + "keyspaces: {}",
        "R115",
        "4:42",
        "a replica on mysql of a database on sqlite",
    ),
    "replica that is the primary": (
        HEAD.replace(
            '"sqlite:///a.db"',
            '"sqlite:///a.db", replicas: ["sqlite:///c.db", { url: "sqlite:///a.db", weight: 2 }]',
        )
        + "keyspaces: {}",
        "R128",
        "4:67",
        "this is the primary itself, or another of its replicas",
    ),
    "replica in memory": (
        HEAD.replace('"sqlite:///a.db"', '"sqlite:///a.db", replicas: ["sqlite://"]')
        + "keyspaces: {}",
        "R128",
        "4:42",
        "a database in memory is a replica of nothing",
    ),
    "weight of a replica": (
        HEAD.replace(
            '"sqlite:///a.db"',
            '"sqlite:///a.db", replicas: [{ url: "sqlite:///c.db", weight: 0 }]',
        )
        + "keyspaces: {}",
        "R106",
        "4:75",
        "expected at least 1",
    ),
    "limits that cannot be kept": (
        HEAD + "keyspaces: {}\nreplication: { max_lag: 1 }",
        "R128",
        "7:14",
        (
            "max_lag is 1 s: a replica that is looked at every 1 s is only known to be as close "
            "as twice that"
        ),
    ),
    # -- keys ---------------------------------------------------------------------------
    "key of two lengths": (
        shop("{ function: hash }", "{ t: [a, b], u: a }"),
        "R120",
        "10:29",
        "`u` has 1 key columns, `t` 2",
    ),
    "column twice": (
        shop("{ function: hash }", "{ t: [a, a] }"),
        "R120",
        "10:18",
        "the key has the column `a` twice",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_problem_has_an_id_a_place_and_a_sentence(case: str) -> None:
    """One fault gives exactly one problem, at the right line and column."""
    source, *problem = CASES[case]
    assert found(source) == [tuple(problem)]


def test_every_problem_of_this_part_has_an_entry_and_a_remedy() -> None:
    """The ids used here are in the catalogue."""
    assert {case[1] for case in CASES.values()} <= CATALOGUE.keys()
    assert all(entry.remedy for entry in CATALOGUE.values())


def test_a_broken_part_is_still_a_name() -> None:
    """A keyspace with a fault of its own is no unknown keyspace to those that use it."""
    source = text("one: { databse: a }", "binds: { default: one }")
    assert [problem[0] for problem in found(source)] == ["R104"]


def test_a_broken_database_is_still_a_name() -> None:
    """A database with a fault of its own is no unknown database to its keyspaces."""
    source = text("one: { database: a }").replace("sqlite:///a.db", "x")
    assert [problem[0] for problem in found(source)] == ["R108"]
