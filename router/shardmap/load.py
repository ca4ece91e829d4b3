"""A YAML file, a text or a dict -> `ShardMap`, or every problem it has in one error.

::

    text ─► yaml_source ─► env ─► parse ─► databases, assemble, rules ─► ShardMap
            marks          ${..}  structure      meaning
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from router.errors import Problem, ShardMapError
from router.shardmap.assemble import assemble
from router.shardmap.databases import build_databases
from router.shardmap.env import expand
from router.shardmap.findings import Document, Findings, Path
from router.shardmap.model import ShardMap
from router.shardmap.parse import parse
from router.shardmap.rules import check
from router.shardmap.yaml_source import MAX_BYTES, MAX_DEPTH, read_yaml


def load_file(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> ShardMap:
    """Read the map from a YAML file.

    Raises
    ------
    ShardMapError
        If the file cannot be read or anything in it is wrong.
    """
    source = os.fspath(path)
    text = _read(source)
    if isinstance(text, Problem):
        raise ShardMapError([text])
    return load_text(text, source, environ)


def load_text(
    text: str, source: str = "<string>", environ: Mapping[str, str] = os.environ
) -> ShardMap:
    """Read the map from YAML text; `source` names it in messages.

    Raises
    ------
    ShardMapError
        If anything is wrong, with the line and column of each problem.
    """
    if len(text) > MAX_BYTES:
        raise ShardMapError([_too_large(source)])
    return _load(read_yaml(text, source), environ)


def load_dict(data: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> ShardMap:
    """Read the map from plain values of the same structure as the YAML.

    Raises
    ------
    ShardMapError
        If anything is wrong, with the path of keys to each problem.
    """
    findings = Findings(Document(None, "<dict>"))
    findings.document = Document(_plain(data, (), findings), "<dict>")
    return _load(findings, environ)


def _load(findings: Findings, environ: Mapping[str, str]) -> ShardMap:
    findings.document = expand(findings.document, environ, findings)
    parsed = parse(findings)
    databases = build_databases(parsed.databases, findings)
    shard_map = assemble(parsed, databases, findings)
    check(parsed, databases, findings)
    findings.raise_if_any()
    return shard_map


def _read(source: str) -> str | Problem:
    try:
        with FilePath(source).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Problem("R101", f"the file cannot be read: {error.strerror}", source)
    if len(raw) > MAX_BYTES:
        return _too_large(source)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Problem("R101", "the file is not UTF-8", f"{source}:{line}:1")


def _too_large(source: str) -> Problem:
    return Problem("R101", f"a map has at most {MAX_BYTES} bytes", source)


def _plain(value: Any, path: Path, findings: Findings) -> Any:
    """Return `value` made of dicts and lists alone, without sharing any with the caller."""
    if len(path) > MAX_DEPTH:
        findings.add("R102", path[:3], f"nested deeper than {MAX_DEPTH} levels")
        findings.fail()
    if isinstance(value, Mapping):
        return {key: _plain(inner, (*path, key), findings) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*path, i), findings) for i, inner in enumerate(value)]
    return value
