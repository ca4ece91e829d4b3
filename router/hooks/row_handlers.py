"""Handlers of mapper events that come after those of the application.

Leans on a mapper's `dispatch` listing handlers in the order in which they are called, and
holding those that take states and may return values as they are.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import InstanceState, Mapper

_EVENTS = ("before_insert", "before_update")

Check = Callable[[InstanceState[Any]], None]


def check_last(mapper: Mapper[Any], check: Check) -> None:
    """Have `check` called for each row after the handlers that may still change its values.

    Nothing is called where there are no such handlers.
    """
    for name in _EVENTS:
        handlers = list(getattr(mapper.dispatch, name))
        if handlers and not _is_check(handlers[-1]):
            event.listen(mapper, name, _handler(check), raw=True, retval=True)


def are_foreign(handlers: Iterable[Any]) -> bool:
    """Return whether there are handlers of the application among those of an event."""
    return not all(map(_is_check, handlers))


def _is_check(handler: Any) -> bool:
    return getattr(handler, "is_check", False) is True


def _handler(check: Check) -> Any:
    # A new function each time: SQLAlchemy takes the same one only once.
    def call(_mapper: Mapper[Any], _connection: Any, state: InstanceState[Any]) -> None:
        check(state)

    call.is_check = True  # type: ignore[attr-defined]
    return call
