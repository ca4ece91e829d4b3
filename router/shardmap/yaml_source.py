"""YAML text -> plain values with the line and column of each key and value.

The rules for plain scalars are those of the YAML 1.2 core schema, so that ``NO`` is
Norway and ``1:30`` is text, plus dates and timestamps.  Numbers with a fraction become
`Decimal`, since they may be shard keys.  Sizes are bounded before anything is built:
a few lines of aliases can stand for billions of values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import yaml

from router.shardmap.findings import At, Document, Findings, Path, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_ALIASES = 1000
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_DATE = r"\d{4}-\d\d-\d\d"
_TIMESTAMP = rf"{_DATE}[Tt ]\d\d:\d\d(:\d\d(\.\d{{1,6}})?)?(Z|[+-]\d\d:\d\d)?"


def _timestamp(text: str) -> date:
    return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": Decimal,
    "timestamp": _timestamp,
}

# tag, pattern of plain scalars, first characters
_RESOLVERS: tuple[tuple[str, str, list[str | None]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]{0,999})", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?", list("-+.0123456789")),
    ("timestamp", rf"{_DATE}|{_TIMESTAMP}", list("0123456789")),
    ("merge", r"<<", ["<"]),
)


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses depth and aliases without end."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  declared so by the base class

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose as the base class does, within the bounds."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        self.aliases += isinstance(event, yaml.AliasEvent)
        self.depth += 1
        if self.aliases > MAX_ALIASES:
            raise _refusal(f"more than {MAX_ALIASES} aliases", event.start_mark)
        if self.depth > MAX_DEPTH:
            raise _refusal(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refusal(what: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, what, mark)


for _name, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def read_yaml(text: str, source: str) -> Findings:
    """Return the document of `text` and what is wrong with it as YAML."""
    try:
        node = _compose(text)
        return _Reader().document(node, source)
    except yaml.MarkedYAMLError as error:
        mark, what = error.problem_mark or error.context_mark, _without_content(error)
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
    except yaml.reader.ReaderError as error:
        place, what = _place(text, error.position), "a character that YAML does not allow"
    findings = Findings(Document(None, source, {((), At.VALUE): place}))
    findings.add("R102", (), what)
    return findings


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def _without_content(error: yaml.MarkedYAMLError) -> str:
    """Return what the parser says, without what it quotes from the file."""
    said = " ".join(filter(None, (error.context, error.problem)))
    return re.sub(r"\s*'(?!<)[^']{2,}'", "", said)


def _place(text: str, position: int) -> str:
    before = text[:position]
    return f"{before.count(chr(10)) + 1}:{position - before.rfind(chr(10))}"


class _Reader:
    """Turns nodes into values, noting marks and problems on the way."""

    def __init__(self) -> None:
        self.marks: dict[tuple[Path, At], str] = {}
        self.notes: list[tuple[str, Path, At, str]] = []
        self.count = 0

    def document(self, node: yaml.Node | None, source: str) -> Findings:
        data = self.value(node, ()) if node is not None else None
        findings = Findings(Document(data, source, self.marks))
        for id_, path, at, what in self.notes:
            findings.add_broken(id_, path, what, at=at)
        return findings

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._bound(node, path)
        self.marks[path, At.VALUE] = _mark(node)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _bound(self, node: yaml.Node, path: Path) -> None:
        self.count += 1
        if self.count > MAX_VALUES or len(path) > MAX_DEPTH:
            what = f"aliases that stand for more than {MAX_VALUES} values or contain themselves"
            raise _refusal(what, node.start_mark)

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        convert = _SCALARS.get(node.tag.removeprefix(_TAG))
        if convert is None or not isinstance(node, yaml.ScalarNode):
            self.notes.append(("R102", path, At.VALUE, "tags are not allowed here"))
            return None
        try:
            return convert(node.value)
        except (ValueError, ArithmeticError):
            kind = "a date" if node.tag.endswith("timestamp") else "a number"
            self.notes.append(("R106", path, At.VALUE, f"this is not {kind}"))
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result = self._inherited(node, path)
        own: set[str] = set()
        for key_node, value_node in node.value:
            key = None if _is_merge(key_node) else self._key(key_node, path)
            if key is None:
                continue
            if key in own:
                self._duplicate(key_node, (*path, key))
                continue
            own.add(key)
            self.marks[(*path, key), At.KEY] = _mark(key_node)
            result[key] = self.value(value_node, (*path, key))
        return result

    def _inherited(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        """Return what `<<` brings in; of several mappings, the first one wins."""
        result: dict[str, Any] = {}
        for other in reversed(list(_merged(node))):
            inherited = self.value(other, path)
            if isinstance(inherited, dict):
                result |= inherited
            else:
                self.notes.append(("R102", path, At.VALUE, "`<<` takes mappings"))
        self.marks[path, At.VALUE] = _mark(node)
        return result

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "str":
            return str(node.value)
        hint = "a key is text"
        if isinstance(node, yaml.ScalarNode) and shown(node.value) != "(not shown)":
            hint += f': write "{node.value}" in quotes'
        at = f"_{_mark(node)}"
        self.marks[(*path, at), At.KEY] = _mark(node)
        self.notes.append(("R106", (*path, at), At.KEY, hint))
        return None

    def _duplicate(self, node: yaml.Node, path: Path) -> None:
        first = self.marks[path, At.KEY]
        again = (*path[:-1], f"_{_mark(node)}")
        self.marks[again, At.KEY] = _mark(node)
        line, column = first.split(":")
        what = f"{shown(path[-1])} is here twice: first in line {line}, column {column}"
        self.notes.append(("R103", again, At.KEY, what))


def _is_merge(key_node: yaml.Node) -> bool:
    return bool(key_node.tag == _TAG + "merge")


def _merged(node: yaml.MappingNode) -> Iterator[yaml.Node]:
    for key_node, value_node in node.value:
        if _is_merge(key_node):
            several = isinstance(value_node, yaml.SequenceNode)
            yield from value_node.value if several else [value_node]


def _mark(node: yaml.Node) -> str:
    return f"{node.start_mark.line + 1}:{node.start_mark.column + 1}"
