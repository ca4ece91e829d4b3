"""Sharding functions of users."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from router.shardmap.functions.building import Site
from router.shardmap.functions.protocol import Key, ShardingFunction
from router.shardmap.functions.registry import register_sharding_function
from router.shardmap.load import load_text
from tests.unit.shardmap.maps import found, sharded, shop

NAMES = (f"custom-{number}" for number in itertools.count())


@dataclass(frozen=True, slots=True)
class Fixed:
    """Everything is in one shard."""

    shard: str

    def shard_of(self, key: Key) -> str:
        """Return the shard."""
        return self.shard


class Options(BaseModel):
    """Options validated by pydantic, as ours are."""

    secret: int


def registered(builder: Any) -> str:
    """Register a builder under a name of its own."""
    name = next(NAMES)
    register_sharding_function(name, builder)
    return name


def test_a_builder_gets_its_options_and_its_site() -> None:
    """All keys beside `function` and `null_shard`, and the keyspace to serve."""
    seen: list[tuple[Mapping[str, Any], Site]] = []

    def build(options: Mapping[str, Any], site: Site) -> ShardingFunction:
        seen.append((options, site))
        return Fixed(options["to"])

    name = registered(build)
    source = shop(f"{{ function: {name}, to: s1, null_shard: s0 }}", "{ orders: [a, b] }")
    keyspace = sharded(load_text(source))
    assert keyspace.function == Fixed("s1")
    assert keyspace.null_shard == "s0"
    assert seen == [({"to": "s1"}, Site("shop", ("s0", "s1"), 2, ("main", "a", "b")))]


def test_a_custom_function_can_place_the_keys_of_a_directory() -> None:
    """`place:` takes every function."""
    name = registered(lambda options, site: Fixed("s1"))
    made: Any = sharded(
        load_text(shop(f"{{ function: directory, database: main, place: {{ function: {name} }} }}"))
    ).function
    assert made.place == Fixed("s1")
    assert made.describe() == "directory in main; new keys by Fixed"


def _says_no(options: Mapping[str, Any], site: Site) -> ShardingFunction:
    raise ValueError("`to` is missing")


def _fails(options: Mapping[str, Any], site: Site) -> ShardingFunction:
    raise KeyError("hunter2")


def _makes_nothing(options: Mapping[str, Any], site: Site) -> Any:
    return None


@pytest.mark.parametrize(
    ("builder", "what"),
    [
        (_says_no, "refuses its options: `to` is missing"),
        (_fails, "refuses its options: KeyError raised"),
        (_makes_nothing, "made something without `shard_of`"),
    ],
)
def test_a_builder_that_fails_is_a_problem_of_the_map(builder: Any, what: str) -> None:
    """What a builder raises is told at the function's name, without its internals."""
    name = registered(builder)
    assert found(shop(f"{{ function: {name} }}")) == [
        ("R116", "9:27", f"the sharding function `{name}` {what}")
    ]


def test_a_builder_that_uses_pydantic() -> None:
    """Its validation errors read like ours and quote no value."""
    name = registered(lambda options, site: Options.model_validate(options))
    source = shop(f"{{ function: {name}, secret: hunter2 }}")
    ((id_, _, what),) = found(source)
    assert id_ == "R106"
    assert "hunter2" not in what


def test_a_name_has_one_meaning() -> None:
    """Neither built-in functions nor other people's can be replaced."""
    builder = _says_no
    name = registered(builder)
    register_sharding_function(name, builder)
    for taken, other in [("hash", builder), (name, _fails)]:
        with pytest.raises(ValueError, match="already"):
            register_sharding_function(taken, other)


PLUGIN = """
from router.shardmap.functions.modulo import ModuloFunction

def build(options, site):
    return ModuloFunction(site.shards)
"""

ENTRY_POINTS = """
[router.sharding_functions]
plugged = some_plugin:build
broken = no_such_module:build
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Install a distribution with entry points into a directory."""
    (tmp_path / "some_plugin.py").write_text(PLUGIN)
    info = tmp_path / "some_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


def test_entry_points(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution can bring functions; a broken one is a problem."""
    monkeypatch.syspath_prepend(plugin)
    made: Any = sharded(load_text(shop("{ function: plugged }"))).function
    assert made.shard_of((3,)) == "s1"
    assert found(shop("{ function: pluged }")) == [
        ("R116", "9:27", "there is no sharding function `pluged`; did you mean `plugged`?")
    ]
    assert found(shop("{ function: broken }")) == [
        (
            "R116",
            "9:27",
            "the sharding function `broken` cannot be imported: ModuleNotFoundError",
        )
    ]


def test_entry_points_are_imported_only_when_named(plugin: Path) -> None:
    """A map with built-in functions imports no plugin."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from router.shardmap.load import load_text\n"
        "load_text(sys.argv[2])\n"
        "print('some_plugin' in sys.modules)\n"
    )
    source = shop("{ function: hash }")
    for text, imported in [(source, "False"), (source.replace("hash", "plugged"), "True")]:
        done = subprocess.run(
            [sys.executable, "-c", program, str(plugin), text],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == imported


def test_the_model_and_the_protocols_are_light() -> None:
    """Whoever only passes a map along imports no parser, validator or hash."""
    program = (
        "import sys\n"
        "import router.shardmap.model, router.shardmap.keys\n"
        "print({'pydantic', 'yaml', 'xxhash'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
