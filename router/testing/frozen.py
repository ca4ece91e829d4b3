"""What a row says, as a value that compares strictly.

Python takes ``1``, ``1.0``, ``True`` and ``Decimal("1.00")`` for equal, and NaN for unequal to
itself.  Frozen values know their type, their scale and their sign, and NaN equals NaN.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.engine import Row
from sqlalchemy.orm import InstanceState

Frozen = tuple[Hashable, ...]
"""The name of a type, followed by what tells its values apart."""

_BY_VALUE = (str, bytes, int, type(None))


class Freezer:
    """Freezes the rows of one result.

    Entities become their class, identity, loaded columns and loaded relationships.  In one
    session an identity is one object; `twins` names those that were two.
    """

    def __init__(self) -> None:
        self.twins: list[str] = []
        self._objects: dict[Hashable, Any] = {}
        self._path: set[Hashable] = set()

    def row(self, values: Iterable[Any]) -> Frozen:
        """Return the frozen values of a row."""
        return tuple(self.value(value) for value in values)

    def value(self, value: Any) -> Frozen:
        """Return a frozen value: a scalar, a collection, a row or a mapped object."""
        name = type(value).__name__
        if isinstance(value, _BY_VALUE):
            return name, value
        if isinstance(value, float):
            return name, repr(value)
        if isinstance(value, Decimal):
            return name, str(value)
        if isinstance(value, datetime | time):
            return name, value.isoformat(), str(value.tzinfo)
        if isinstance(value, Row):
            return name, tuple(value._fields), self.row(value)
        if isinstance(value, list | tuple):
            return name, self.row(value)
        if isinstance(value, Mapping):
            return name, tuple((self.value(key), self.value(one)) for key, one in value.items())
        if isinstance(value, set | frozenset):
            return name, _unordered(map(self.value, value))
        state = inspect(value, raiseerr=False)
        return self._entity(state) if isinstance(state, InstanceState) else (name, repr(value))

    def _entity(self, state: InstanceState[Any]) -> Frozen:
        name = type(state.object).__name__
        identity = self.row(state.identity or ())
        named = (name, identity)
        if self._objects.setdefault(named, state.object) is not state.object:
            self.twins.append(f"two objects are {name} {state.identity}")
        if named in self._path:
            return named
        self._path.add(named)
        try:
            return (*named, self._columns(state), self._relationships(state))
        finally:
            self._path.discard(named)

    def _columns(self, state: InstanceState[Any]) -> Frozen:
        loaded, names = state.dict, state.mapper.column_attrs.keys()
        return tuple((name, self.value(loaded[name])) for name in names if name in loaded)

    def _relationships(self, state: InstanceState[Any]) -> Frozen:
        loaded = state.dict
        return tuple(
            (key, self._related(loaded[key], ordered=bool(relationship.order_by)))
            for key, relationship in state.mapper.relationships.items()
            if key in loaded
        )

    def _related(self, value: Any, *, ordered: bool) -> Frozen:
        if isinstance(value, list) and not ordered:
            return "list", _unordered(map(self.value, value))
        return self.value(value)


def _unordered(values: Iterable[Frozen]) -> Frozen:
    return tuple(sorted(values, key=repr))
