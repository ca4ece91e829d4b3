"""Small maps that the tests of this package share."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from router.errors import Problem, ShardMapError
from router.shardmap.load import load_dict, load_text
from router.shardmap.model import ShardedKeyspace, ShardMap

HEAD = """\
version: 1
databases:
  main: { url: "sqlite:///main.db" }
  a: { url: "sqlite:///a.db" }
  b: { url: "sqlite:///b.db" }
"""


def text(keyspaces: str, rest: str = "") -> str:
    """Return a map with three databases and, from line 7 on, the given keyspaces."""
    body = textwrap.indent(textwrap.dedent(keyspaces), "  ")
    return f"{HEAD}keyspaces:\n{body}\n{textwrap.dedent(rest)}"


def shop(sharding: str, tables: str = "{ orders: id }") -> str:
    """Return a map whose keyspace `shop` has this sharding (line 9) over `s0` and `s1`."""
    return text(
        f"shop:\n  shards: {{ s0: a, s1: b }}\n  sharding: {sharding}\n  tables: {tables}\n"
    )


def sharded(shard_map: ShardMap, name: str = "shop") -> ShardedKeyspace:
    """Return a sharded keyspace of the map."""
    keyspace = shard_map.keyspaces[name]
    if not isinstance(keyspace, ShardedKeyspace):
        pytest.fail(f"{name} is not sharded")
    return keyspace


def problems(source: str | dict[str, Any], **environ: str) -> tuple[Problem, ...]:
    """Return the problems of a map that cannot be loaded."""
    with pytest.raises(ShardMapError) as caught:
        _load(source, environ)
    return caught.value.problems


def _load(source: str | dict[str, Any], environ: dict[str, str]) -> ShardMap:
    if isinstance(source, str):
        return load_text(source, "m.yaml", environ)
    return load_dict(source, environ)


def found(source: str | dict[str, Any], **environ: str) -> list[tuple[str, str, str]]:
    """Return id, place and sentence of every problem."""
    return [(p.id, p.where.removeprefix("m.yaml:"), p.what) for p in problems(source, **environ)]
