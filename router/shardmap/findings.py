"""Where things are in a source, and the problems found there so far."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any, NoReturn

from router.errors import Problem, ShardMapError

Path = tuple[str | int, ...]
"""Keys and indexes that lead from the top of a source to a value."""

_SAFE_NAME = re.compile(r"[\w.$-]{1,64}(:[\w.<>]{1,128})?")


class At(Enum):
    """Which end of a `key: value` pair a problem is about."""

    KEY = "key"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Document:
    """A source as plain values, and the places of its keys and values.

    A document made from a dict has no marks; its places are paths of keys.
    """

    data: Any
    source: str
    marks: Mapping[tuple[Path, At], str] | None = None

    def where(self, path: Path, at: At = At.VALUE) -> str:
        """Return ``file:line:column`` of the nearest thing to `path` that exists."""
        if self.marks is None:
            return f"{self.source}: {dotted(path)}" if path else self.source
        while path and (path, at) not in self.marks:
            # An item of a list has no key, and what is missing has neither: go outwards.
            has_value = at is At.KEY and (path, At.VALUE) in self.marks
            path, at = (path, At.VALUE) if has_value else (path[:-1], At.KEY)
        return f"{self.source}:{self.marks.get((path, at), '1:1')}"


@dataclass(slots=True)
class Findings:
    """The problems of one document, in the order found; the only mutable part of loading."""

    document: Document
    problems: list[Problem] = field(default_factory=list)
    broken: set[Path] = field(default_factory=set)

    def add(self, id: str, path: Path, what: str, *, at: At = At.VALUE, fix: str = "") -> None:
        """Note a problem at `path`."""
        self.problems.append(Problem(id, what, self.document.where(path, at), fix))

    def add_broken(self, id: str, path: Path, what: str, *, at: At = At.VALUE) -> None:
        """Note a problem that leaves nothing at `path` for later checks to look at."""
        self.add(id, path, what, at=at)
        self.broken.add(path)

    def raise_if_any(self) -> None:
        """End the pass.

        Raises
        ------
        ShardMapError
            If anything was noted, with all of it in the order of the source.
        """
        if self.problems:
            self.fail()

    def fail(self) -> NoReturn:
        """End the pass with the problems there are.

        Raises
        ------
        ShardMapError
            Always.
        """
        raise ShardMapError(sorted(dict.fromkeys(self.problems), key=_place))


def shown(name: object) -> str:
    """Quote `name` for a message, unless it could be something that holds a password."""
    text = str(name)
    return f"`{text}`" if _SAFE_NAME.fullmatch(text) else "(not shown)"


def dotted(path: Path) -> str:
    """Write a path the way programmers do: ``keyspaces.shop.ranges[1].to``."""
    parts = [f"[{p}]" if isinstance(p, int) else f".{shown(p).strip('`')}" for p in path]
    return "".join(parts).removeprefix(".")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean `x`?`` for the name closest to `name`, or nothing."""
    by_lower = {k.lower(): k for k in known if _SAFE_NAME.fullmatch(k)}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean `{by_lower[close[0]]}`?" if close else ""


def _place(problem: Problem) -> tuple[int, ...]:
    numbers = re.search(r":(\d+):(\d+)$", problem.where)
    return tuple(int(number) for number in numbers.groups()) if numbers else ()
