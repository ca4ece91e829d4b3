"""No message and no repr has a password."""

from __future__ import annotations

import pickle
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ShardMapError
from router.shardmap.load import load_dict, load_text

SECRET = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="${}"), min_size=8
).map(lambda text: f"Hunter2{text}")

KEYSPACE = {"s": {"shards": {"s0": "a"}, "sharding": {"function": "hash"}, "tables": {"t": "id"}}}


def good(url: str) -> dict[str, Any]:
    """Return a map with one database."""
    return {"version": 1, "databases": {"a": {"url": url}}, "keyspaces": KEYSPACE}


def wrong(url: str, secret: str) -> list[dict[str, Any]]:
    """Return maps with faults at, or around, a URL and a password."""
    a = {"a": {"url": url}}
    k = KEYSPACE
    base = {"version": 1, "databases": a, "keyspaces": k}
    return [
        base | {"databases": {"a": {"url": "x" + url[3:].replace("://", ":/")}}},
        base | {"databases": {"a": {"url": [url]}}},
        base | {"databases": {"a": {"url": url, "password": secret}}},
        base | {"databases": {"a": {f"url:{url}": None}}},
        base | {"databases": {"a": url}},
        base | {"databases": {url: {"url": url}}},
        base | {"databases": {"a": {"url": url, "replicas": url}}},
        base | {"databases": {"a": {"url": url, "replicas": [url, "x"]}}},
        base | {"databases": {"a": {"url": url, "engine": url}}},
        base | {"databases": {"a": {"url": url.replace("postgresql", "mysq")}}},
        base | {"keyspaces": {"k": {"database": url}}},
        base | {"keyspaces": {"k": {"database": "a", url: 1}}},
        base | {"keyspaces": k | {"b": {"database": "zz"}}},
        base | {"binds": {"default": url}},
        base | {"binds": {"mappers": {url: "s"}}},
        base | {"scatter": url},
        base | {"keyspaces": {"s": k["s"] | {"sharding": {"function": url}}}},
        base | {"keyspaces": {"s": k["s"] | {"sharding": {"function": "hash", "x": url}}}},
        base | {"keyspaces": {"s": k["s"] | {"shards": {"s0": url}}}},
        base | {url: 1},
        base | {"version": url},
    ]


@given(SECRET)
def test_no_error_has_a_password(secret: str) -> None:
    """Whatever is wrong, neither message nor traceback nor pickle repeats the password."""
    quoted = quote(secret, safe="")
    url = f"postgresql+psycopg://app:{quoted}@db/shop"
    for data in wrong(url, secret):
        with pytest.raises(ShardMapError) as caught:
            load_dict(data)
        error = caught.value
        told = "".join(traceback.format_exception(error)) + repr(error) + str(error.problems)
        told += str(pickle.loads(pickle.dumps(error)))
        assert secret not in told
        assert quoted not in told


@given(SECRET)
def test_a_password_from_the_environment_is_not_told_either(secret: str) -> None:
    """A password that breaks its URL is refused without being repeated."""
    data = good("postgresql+psycopg://app:${PW}@db/shop") | {"binds": {"default": "nowhere"}}
    with pytest.raises(ShardMapError) as caught:
        load_dict(data, {"PW": secret})
    assert secret not in "".join(traceback.format_exception(caught.value))


@given(SECRET)
def test_no_repr_has_a_password(secret: str) -> None:
    """A map can be printed, with passwords in URLs, queries and engine arguments."""
    quoted = quote(secret, safe="")
    data = good(f"postgresql+psycopg://app:{quoted}@db/shop?password={quoted}")
    data["databases"]["a"] |= {
        "engine": {"connect_args": {"password": secret}},
        "replicas": [f"postgresql+psycopg://app:{quoted}@r/shop"],
    }
    m = load_dict(data)
    assert m.databases["a"].url.password == secret
    told = repr(m) + str(m) + repr(m.databases["a"])
    assert secret not in told
    assert quoted not in told


@given(SECRET)
def test_a_cut_off_file_does_not_tell(secret: str) -> None:
    """Syntax errors do not quote the line they are in."""
    text = f"version: 1\ndatabases:\n  a: {{ url: 'postgresql://app:{quote(secret)}@db/x'\n"
    with pytest.raises(ShardMapError) as caught:
        load_text(text)
    assert secret not in "".join(traceback.format_exception(caught.value))
