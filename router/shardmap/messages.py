"""Validation errors in the words of the file: no values, no internals of the validator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from router.shardmap.findings import At, Path, shown, suggestion
from router.shardmap.functions.building import Complaint

TAG = "@"
"""First character of the tags of unions, which stand in paths but not in files."""

_DID_YOU_MEAN = re.compile(r"did you mean `(.+)`\?$")

_GOT: Mapping[type, str] = {
    type(None): "nothing",
    bool: "true or false",
    int: "an integer",
    Decimal: "a decimal number",
    float: "a decimal number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}

_EXPECTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "int_type": "an integer",
    "list_type": "a list",
    "model_type": "a mapping",
    "string_type": "text",
}

_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda ctx: f"expected at least {ctx['ge']}",
    "invalid_key": lambda _: "a key is text",
    "less_than_equal": lambda ctx: f"expected at most {ctx['le']}",
    "literal_error": lambda ctx: f"expected {ctx['expected']}",
    "string_too_short": lambda _: "expected text, got an empty one",
    "too_long": lambda ctx: f"expected at most {_items(ctx['max_length'])}",
    "too_short": lambda ctx: f"expected at least {_items(ctx['min_length'])}",
    "value_error": lambda ctx: str(ctx["error"]),
}


def explain(error: ValidationError, model: type[BaseModel]) -> list[Complaint]:
    """Return a complaint for everything that `model` does not like.

    A missing key that some unknown key seems to mean is not reported a second time.
    """
    complaints = [_complaint(detail, model) for detail in error.errors(include_url=False)]
    meant = {
        (*c.path[:-1], match[1]) for c in complaints if (match := _DID_YOU_MEAN.search(c.what))
    }
    return [c for c in complaints if c.id != "R105" or _missing_path(c) not in meant]


def _missing_path(complaint: Complaint) -> Path:
    return (*complaint.path, complaint.what.split("`")[1])


def _complaint(detail: Any, model: type[BaseModel]) -> Complaint:
    kind, loc, ctx = detail["type"], tuple(detail["loc"]), detail.get("ctx", {})
    path, at = _path(loc)
    if kind == "extra_forbidden":
        known = _known_keys(model, loc[:-1])
        what = f"unknown key {shown(path[-1])}" + suggestion(str(path[-1]), known)
        return Complaint("R104", path, what, At.KEY)
    if kind == "missing":
        return Complaint("R105", path[:-1], f"`{path[-1]}` is missing", At.KEY)
    if kind == "string_pattern_mismatch":
        return _not_a_name(ctx["pattern"], path, at)
    if kind in _LIMITS:
        return Complaint("R106", path, _LIMITS[kind](ctx), at)
    got = type_name(detail["input"])
    what = f"expected {_EXPECTED[kind]}, got {got}" if kind in _EXPECTED else f"{got} is not valid"
    return Complaint("R106", path, what, at)


def _not_a_name(pattern: str, path: Path, at: At) -> Complaint:
    if ":" in pattern:
        return Complaint("R106", path, "expected a class: package.module:Class", at)
    rule = "letters, digits, `_`, `-` and `.`, at most 64, not starting with `-` or `.`"
    return Complaint("R109", path, f"this is no name: names have {rule}", at)


def type_name(value: object) -> str:
    """Name the type of a value of the file, without the value."""
    if isinstance(value, date):
        return "a date"
    return _GOT.get(type(value), f"a {type(value).__name__}")


def _items(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _path(loc: Sequence[str | int]) -> tuple[Path, At]:
    at = At.KEY if loc and loc[-1] == "[key]" else At.VALUE
    return tuple(p for p in loc if p != "[key]" and not str(p).startswith(TAG)), at


def _known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    models = [model]
    for part in loc:
        if str(part).startswith(TAG):
            models = [m for m in models if m.__name__.lower() == str(part).removeprefix(TAG)]
        elif any(part in m.model_fields for m in models):
            fields = [m.model_fields[str(part)] for m in models if part in m.model_fields]
            models = [inner for f in fields for inner in _models_in(f.annotation)]
    return [name for m in models for name in m.model_fields]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
