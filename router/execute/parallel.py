"""Makes the same call on several databases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def run_all(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make every call and return what they return, in their order."""
    return [call() for call in calls]
