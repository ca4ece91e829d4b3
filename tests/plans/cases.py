"""Reads the goldens, plans their statements, and writes what came out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy
import yaml
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from router.errors import RouterError
from router.route.binds import BindTable
from router.route.circumstances import Circumstances
from router.route.planner import Planner
from router.route.target import Destination, Reach, Target
from router.shardmap.load import load_dict
from tests.plans import models

FOLDER = Path(__file__).parent
ASIDE = ".yaml.new"

Case = dict[str, Any]


def files() -> list[Path]:
    """Return every file of goldens."""
    return sorted(FOLDER.glob("*.yaml"))


def cases(file: Path) -> list[Case]:
    """Return the cases of one file."""
    loaded: list[Case] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return loaded


@cache
def planner() -> Planner:
    """Return a planner for the map of `tests.plans.models`; it knows no database."""
    shard_map = load_dict(models.MAP, environ={})
    binds = BindTable(shard_map, {"default": models.Base.metadata})
    return Planner(binds, [postgresql.dialect()])


def namespace() -> dict[str, Any]:
    """Return the names that statements of goldens may use."""
    names: dict[str, Any] = {**vars(sqlalchemy), **vars(orm)}
    names |= {"date": date, "pg": postgresql, "sql_text": sqlalchemy.text}
    return {**names, **vars(models), "select": sqlalchemy.select, "Any": Any}


def plan(case: Case) -> Any:
    """Return where the statement of `case` goes, or the error, as the golden has it."""
    names = namespace()
    try:
        # Two in a row: the second finds the shape in the cache.
        first, second = (_target(case, names) for _ in range(2))
    except RouterError as error:
        return {"raises": f"{type(error).__name__} {error.id} {error.what}"}
    if first != second:
        return {"differs": [_described(first), _described(second)]}
    return _described(first)


def _target(case: Case, names: dict[str, Any]) -> Target:
    statement = eval(case["statement"], names)
    params = eval(str(case["params"]), names) if "params" in case else None
    return planner().target(statement, params, _around(case))[0]


def _around(case: Case) -> Circumstances:
    if "hint" not in case:
        return Circumstances(pinned=case.get("pinned", {}), near=case.get("near", {}))
    database, _, shard = str(case["hint"]).partition(" ")
    return Circumstances(hint=Destination(database, shard or None))


def _described(target: Target) -> Any:
    if target.reach is Reach.REFUSED and target.refusal is not None:
        error = target.refusal.exception()
        found = {"refused": f"{type(error).__name__} {error.id} {error.what}"}
        return {**found, "fix": target.refusal.fix} if target.refusal.fix else found
    found = {
        target.reach.value: ", ".join(one.shard or one.database for one in target.destinations),
        "because": list(target.reasons),
    }
    if target.exact is not None:
        found["tier"] = target.exact.name.lower()
    if target.narrowing is not None:
        parts = {name: list(map(repr, part)) for name, part in target.narrowing.parts.items()}
        found["keys"] = {name: ", ".join(part) for name, part in sorted(parts.items())}
    return found


def rewritten() -> Iterator[tuple[Path, str]]:
    """Yield each file with the text that it would have with today's plans."""
    for file in files():
        new = [{**case, "plan": plan(case)} for case in cases(file)]
        yield file, _dumped(new)


def _dumped(found: list[Case]) -> str:
    dumps = (
        yaml.safe_dump([case], sort_keys=False, allow_unicode=True, width=96) for case in found
    )
    return "\n".join(dumps)


def write_aside() -> list[Path]:
    """Write the files whose plans have changed beside the old ones; return the new files."""
    written = []
    for file, text in rewritten():
        if text != file.read_text(encoding="utf-8"):
            new = file.with_suffix(ASIDE)
            new.write_text(text, encoding="utf-8")
            written.append(new)
    return written


def copy_command(written: list[Path]) -> str:
    """Return the command that accepts the plans written aside."""
    root = FOLDER.parents[1]
    pairs = ((new.relative_to(root), new.with_suffix("").relative_to(root)) for new in written)
    return " && ".join(f"mv {new} {old}.yaml".replace(".yaml.yaml", ".yaml") for new, old in pairs)
