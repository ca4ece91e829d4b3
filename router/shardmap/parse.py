"""Plain values -> the models of `schema`, with every problem of structure.

What is wrong in one part does not hide what is wrong in another: the parts with
problems are left out, and the rest is handed on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from router.shardmap.findings import Findings, Path
from router.shardmap.functions.building import Complaint
from router.shardmap.messages import explain
from router.shardmap.schema import Map

# How many keys lead to the smallest part that makes sense alone.
_PART_DEPTH = {"databases": 2, "keyspaces": 2, "binds": 2, "unique": 2}


def parse(findings: Findings) -> Map:
    """Return the sound parts of the document.

    Raises
    ------
    ShardMapError
        If nothing can be made of it.
    """
    data = findings.document.data
    if not isinstance(data, dict):
        if not findings.problems:
            findings.add("R102", (), "the map is empty" if data is None else "expected a mapping")
        findings.fail()
    for complaint in _complaints(data):
        if not _is_within(complaint.path, findings.broken):
            findings.add_broken(complaint.id, complaint.path, complaint.what, at=complaint.at)
    sound = {"version": 1, "databases": {}, "keyspaces": {}} | _without(data, findings.broken)
    if _complaints(sound):
        findings.fail()
    return Map.model_validate(sound)


def _complaints(data: dict[str, Any]) -> list[Complaint]:
    try:
        Map.model_validate(data)
    except ValidationError as error:
        return explain(error, Map)
    return []


def _is_within(path: Path, broken: Iterable[Path]) -> bool:
    return any(path[: len(part)] == part for part in broken)


def _without(data: dict[str, Any], broken: Iterable[Path]) -> dict[str, Any]:
    left = {k: dict(v) if isinstance(v, dict) else v for k, v in data.items()}
    for path in broken:
        part = path[: _PART_DEPTH.get(str(path[0]), 1)] if path else ()
        if len(part) == 2 and isinstance(left.get(str(part[0])), dict):
            left[str(part[0])].pop(part[1], None)
        elif part:
            left.pop(str(part[0]), None)
    return left
