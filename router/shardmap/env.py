"""``${NAME}`` and ``${NAME:-default}`` in the strings of a source.

As in a shell, the default is used when the variable is not set or empty.  ``$${`` is a
plain ``${``.  What was filled in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from router.shardmap.findings import Document, Findings, Path

_REFERENCE = re.compile(
    r"\$\$\{"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}"
    r"|(?P<malformed>\$\{)"
)


def expand(document: Document, environ: Mapping[str, str], findings: Findings) -> Document:
    """Return `document` with its variables filled in; note the ones that are missing."""
    return replace(document, data=_expand(document.data, (), environ, findings))


def _expand(value: Any, path: Path, environ: Mapping[str, str], findings: Findings) -> Any:
    if isinstance(value, str):
        text = _Text(environ)
        expanded = _REFERENCE.sub(text.fill_in, value)
        for what in text.problems():
            findings.add_broken("R107", path, what)
        return expanded
    if isinstance(value, dict):
        return {k: _expand(v, (*path, k), environ, findings) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, (*path, i), environ, findings) for i, v in enumerate(value)]
    return value


class _Text:
    """The variables of one string."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.missing: dict[str, None] = {}
        self.malformed = False

    def fill_in(self, match: re.Match[str]) -> str:
        if match["malformed"]:
            self.malformed = True
        name, default = match["name"], match["default"]
        if name is None:
            return "${"
        if self.environ.get(name) or (default is None and name in self.environ):
            return self.environ[name]
        if default is None:
            self.missing[name] = None
            return ""
        return default.removeprefix(":-")

    def problems(self) -> Iterator[str]:
        for name in self.missing:
            yield f"the environment variable {name} is not set"
        if self.malformed:
            yield "`${` without a name and `}`"
