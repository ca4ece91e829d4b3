"""Maps that are right, and maps with many faults at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.errors import RouterError, ShardMapError
from router.shardmap.load import load_dict, load_file, load_text
from router.shardmap.model import Scatter, ShardedKeyspace, UnshardedKeyspace
from router.shardmap.yaml_source import MAX_BYTES
from tests.unit.shardmap.maps import HEAD, found, problems, sharded, shop, text

CONFIG = Path(__file__).parents[3] / "config"

EVERYTHING = """\
version: 1
databases:
  main: { url: "postgresql+psycopg://app:${PW}@db0/main" }
  s_0:
    url: "postgresql+psycopg://app:${PW}@db1/shop"
    replicas: ["postgresql+psycopg://app:${PW}@db1r/shop"]
    engine: { pool_size: 10, pool_timeout: 1.5, connect_args: { keepalives: 1 } }
  s_1: { url: "postgresql+psycopg://app:${PW}@db2/shop" }
  ledger: { url: "mysql+pymysql://app:${PW}@db3/ledger" }
keyspaces:
  accounts: { database: main }
  shop:
    shards: { s0: s_0, s1: s_1 }
    sharding: { function: hash, buckets: 8, null_shard: s1 }
    tables:
      customers: id
      sales.orders: [customer_id]
    reference_tables: [countries]
    scatter: deny
binds:
  mappers: { "shop.models:Invoice": accounts }
  classes: { "shop.models:Base": accounts }
  tables: { "audit.events": accounts }
  metadata: { shop: shop }
  default: accounts
transactions: { two_phase: false }
scatter: allow
gather: { max_rows: 7 }
"""


def test_everything_that_a_map_can_say() -> None:
    """Each key of the YAML arrives in its field of the model."""
    m = load_text(EVERYTHING, "m.yaml", {"PW": "pw"})
    shop_ = sharded(m)
    assert m.databases["s_0"].url.password == "pw"
    assert m.databases["s_0"].replicas[0].url.host == "db1r"
    assert dict(m.databases["s_0"].engine) == {
        "pool_size": 10,
        "pool_timeout": 1.5,
        "connect_args": {"keepalives": 1},
    }
    assert type(m.databases["s_0"].engine["pool_timeout"]) is float
    assert isinstance(m.keyspaces["accounts"], UnshardedKeyspace)
    assert list(shop_.shards.items()) == [("s0", "s_0"), ("s1", "s_1")]
    assert dict(shop_.tables) == {"customers": ("id",), "sales.orders": ("customer_id",)}
    assert (shop_.reference_tables, shop_.null_shard) == (("countries",), "s1")
    assert (shop_.scatter, m.scatter) == (Scatter.DENY, Scatter.ALLOW)
    assert (m.two_phase, m.gather_max_rows, m.source) == (False, 7, "m.yaml")
    assert m.binds.mappers == {"shop.models:Invoice": "accounts"}
    assert m.binds.classes == {"shop.models:Base": "accounts"}
    assert m.binds.tables == {"audit.events": "accounts"}
    assert (m.binds.metadata, m.binds.default) == ({"shop": "shop"}, "accounts")


def test_places_are_kept_for_later_messages() -> None:
    """The model knows the line and column of whatever an error may have to point at."""
    m = load_text(EVERYTHING, "m.yaml", {"PW": "pw"})
    assert m.databases["s_1"].where == "m.yaml:8:3"
    assert m.keyspaces["shop"].where == "m.yaml:12:3"
    assert sharded(m).table_where == {
        "customers": "m.yaml:16:7",
        "sales.orders": "m.yaml:17:7",
        "countries": "m.yaml:18:24",
    }
    assert m.binds.where["tables.audit.events"] == "m.yaml:23:13"


def test_what_is_left_out_has_defaults() -> None:
    """Two-phase commits, scatter allowed, a million rows gathered, nothing bound."""
    m = load_text(text("one: { database: a }"))
    assert (m.two_phase, m.scatter, m.gather_max_rows) == (True, Scatter.ALLOW, 1_000_000)
    assert (m.binds.default, dict(m.binds.tables)) == (None, {})


def test_a_dict_gives_the_same_map_as_its_yaml() -> None:
    """`load_dict` differs from `load_text` in the places only."""
    environ = {"PW": "pw"}
    a, b = load_text(EVERYTHING, "x", environ), load_dict(yaml.safe_load(EVERYTHING), environ)
    assert sharded(a).function == sharded(b).function
    assert [d.url for d in a.databases.values()] == [d.url for d in b.databases.values()]
    assert b.keyspaces["shop"].where == "<dict>: keyspaces.shop"


def test_the_model_cannot_be_changed_through_what_it_was_made_of() -> None:
    """A caller's dict stays his own, and the mappings of the model are read-only."""
    data = yaml.safe_load(EVERYTHING)
    m = load_dict(data, {"PW": "pw"})
    data["keyspaces"]["shop"]["tables"]["late"] = "id"
    assert "late" not in sharded(m).tables
    with pytest.raises(TypeError):
        m.databases["main"] = m.databases["s_0"]  # type: ignore[index]


def test_the_same_databases_may_serve_two_keyspaces() -> None:
    """Tables split by different keys may share machines, and reference tables."""
    part = "{ shards: { x: a, y: b }, sharding: { function: hash }, reference_tables: [r] }"
    m = load_text(text(f"one: {part}\ntwo: {part}\nthree: {{ database: a }}"))
    assert isinstance(m.keyspaces["two"], ShardedKeyspace)


@pytest.mark.parametrize("name", ["shards.yaml", "docker.yaml"])
def test_the_examples_load_without_any_environment(name: str) -> None:
    """The files in config/ are maps that anyone can load."""
    m = load_file(CONFIG / name, {})
    assert sharded(m).reference_tables == ("countries",)


def test_a_file_that_is_not_there() -> None:
    """R101 with the path and the system's reason."""
    with pytest.raises(ShardMapError) as caught:
        load_file("no/such/shards.yaml")
    assert isinstance(caught.value, RouterError)
    assert str(caught.value) == (
        "R101 the file cannot be read: No such file or directory\n"
        "  where: no/such/shards.yaml\n"
        "  fix:   check the path, the permissions, the encoding (UTF-8) and the size (1 MiB)"
    )


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    """R101 with the line of the first byte that is not UTF-8."""
    file = tmp_path / "m.yaml"
    file.write_bytes(b"version: 1\nname: \xff\n")
    with pytest.raises(ShardMapError) as caught:
        load_file(file)
    assert (caught.value.id, caught.value.where) == ("R101", f"{file}:2:1")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    file = tmp_path / "m.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + text("one: { database: a }").encode())
    assert "one" in load_file(os.fspath(file)).keyspaces


@pytest.mark.parametrize("read", ["file", "text"])
def test_size_is_bounded(read: str, tmp_path: Path) -> None:
    """A megabyte is enough for a map; more is refused before it is parsed."""
    big = HEAD + "#" * MAX_BYTES
    file = tmp_path / "m.yaml"
    file.write_text(big)
    with pytest.raises(ShardMapError) as caught:
        load_file(file) if read == "file" else load_text(big)
    assert caught.value.id == "R101"


MANY = """\
version: 2
databases:
  main: { url: "sqlite:///${NOPE}", enigne: {} }
  a: { url: "not a url" }
  a: { url: "sqlite:///b" }
  c: { url: "mysq://app@db/c" , replicas: x }
keyspaces:
  accounts: { database: man }
  empty: {}
  shop:
    shrads: { s0: a, s1: c }
    sharding: { function: hash }
  mail:
    shards: { s0: a, s1: a }
    sharding: { function: hsh, null_shard: s7 }
    tables: { customers: id }
binds:
  tables: { x: shp, customers: mail }
transactions: { two_phase: yes }
"""


def test_everything_wrong_is_said_in_one_pass() -> None:
    """Structure, environment and meaning, in the order of the file."""
    assert found(MANY) == [
        ("R106", "1:10", "expected 1"),
        ("R107", "3:16", "the environment variable NOPE is not set"),
        ("R104", "3:37", "unknown key `enigne`; did you mean `engine`?"),
        ("R108", "4:13", "this is not a URL that SQLAlchemy understands"),
        ("R103", "5:3", "`a` is here twice: first in line 4, column 3"),
        ("R106", "6:43", "expected a list, got text"),
        ("R110", "8:25", "there is no database `man`; did you mean `main`?"),
        ("R105", "9:3", "`database` is missing"),
        ("R104", "11:5", "unknown key `shrads`; did you mean `shards`?"),
        ("R114", "14:26", "`s1` is in the same database as `s0`"),
        ("R116", "15:27", "there is no sharding function `hsh`; did you mean `hash`?"),
        ("R112", "15:44", "the keyspace has no shard `s7`"),
        ("R111", "18:16", "there is no keyspace `shp`; did you mean `shop`?"),
        ("R113", "18:21", "the table `customers` is already listed under keyspace `mail`"),
        ("R106", "19:28", "expected true or false, got text"),
    ]


def test_the_message_of_one_problem() -> None:
    """One problem reads like every other error of the library."""
    with pytest.raises(ShardMapError) as caught:
        load_text(shop("{ function: hsh }"), "config/shards.yaml", {})
    assert str(caught.value) == (
        "R116 there is no sharding function `hsh`; did you mean `hash`?\n"
        "  where: config/shards.yaml:9:27\n"
        "  fix:   use a built-in function, or register your own under this name"
    )


def test_the_message_of_two_problems() -> None:
    """Several problems are counted and listed, each with its fix."""
    with pytest.raises(ShardMapError) as caught:
        load_text(text("one: { database: x }\ntwo: { database: y }"), "m.yaml", {})
    assert str(caught.value) == (
        "the shard map has 2 problems:\n"
        "R110 m.yaml:7:20: there is no database `x`\n"
        "  fix:   name a database of `databases:`, or add it there\n"
        "R110 m.yaml:8:20: there is no database `y`\n"
        "  fix:   name a database of `databases:`, or add it there"
    )


DICT_PROBLEMS: list[tuple[Any, str, str]] = [
    ([], "R102", "<dict>"),
    ({"version": 1, "databases": {}}, "R105", "<dict>"),
    (
        {"version": 1, "databases": {"a": {"url": 5}}, "keyspaces": {}},
        "R106",
        "<dict>: databases.a.url",
    ),
    (
        {"version": 1, "databases": {"a": {"url": "sqlite://", "replicas": [5]}}, "keyspaces": {}},
        "R106",
        "<dict>: databases.a.replicas[0]",
    ),
    ({"version": 1, "databases": {5: {}}, "keyspaces": {}}, "R106", "<dict>: databases[5]"),
]


@pytest.mark.parametrize(("data", "id", "where"), DICT_PROBLEMS)
def test_problems_of_dicts_have_paths(data: Any, id: str, where: str) -> None:
    """A dict has no lines, so the path of keys says where."""
    assert (id, where) in [(p.id, p.where) for p in problems(data)]


def test_a_dict_that_contains_itself() -> None:
    """R102 instead of a recursion without end."""
    data: dict[str, Any] = {"version": 1}
    data["databases"] = data
    assert [p.id for p in problems(data)] == ["R102"]
