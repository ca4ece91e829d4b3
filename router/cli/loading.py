"""What the command line is given: the map's path, metadata by name, keys as words."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import MetaData, text

from router.errors import RouterError, RoutingError
from router.shardmap.keytypes import KeyKind, KeyType


def default_config() -> Path:
    """Return $ROUTER_CONFIG, or else config/shards.yaml."""
    return Path(os.environ.get("ROUTER_CONFIG") or "config/shards.yaml")


def find_metadata(name: str) -> MetaData:
    """Import `name`, written ``package.module:attribute``: a `MetaData` or a declarative base.

    Raises
    ------
    RouterError
        There is no such module or attribute, or it is neither.
    """
    module, _, attribute = name.partition(":")
    found = _imported(module, attribute or "metadata")
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, MetaData):
        raise RouterError("R604", f"{name!r} is neither a MetaData nor a declarative base")
    return metadata


def find_statement(name: str) -> Any:
    """Import ``package.module:attribute``, a statement or what returns one; else take SQL text."""
    if re.fullmatch(r"[\w.]+:[\w.]+", name) is None:
        return text(name)
    module, _, attribute = name.partition(":")
    found = _imported(module, attribute)
    return found() if inspect.isfunction(found) else found


def _imported(module: str, attribute: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        what = f"{f'{module}:{attribute}'!r} cannot be imported: {error}"
        raise RouterError("R604", what) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return found


def key_of(words: list[str], types: tuple[KeyType, ...] | None, text: bool) -> Any:
    """Return the key that `words` write, by the key columns' types where they are known."""
    kinds = [one.kind for one in types] if types is not None else [_guess(w, text) for w in words]
    if len(kinds) != len(words):
        raise RoutingError("R204", f"the key has {len(kinds)} columns, {len(words)} are given")
    values = tuple(_parse(word, kind) for word, kind in zip(words, kinds, strict=True))
    return values if len(values) > 1 else values[0]


def _guess(word: str, text: bool) -> KeyKind:
    return KeyKind.TEXT if text or not word.lstrip("-").isdecimal() else KeyKind.INTEGER


def _parse(word: str, kind: KeyKind) -> Any:
    parsers: dict[KeyKind, Any] = {
        KeyKind.INTEGER: int,
        KeyKind.DECIMAL: Decimal,
        KeyKind.UUID: UUID,
        KeyKind.DATE: date.fromisoformat,
        KeyKind.TIMESTAMP: datetime.fromisoformat,
        KeyKind.BYTES: bytes.fromhex,
        KeyKind.TEXT: str,
    }
    try:
        return parsers[kind](word)
    except (ValueError, InvalidOperation) as error:
        raise RoutingError("R204", f"{word!r} is not {kind.value}") from error
