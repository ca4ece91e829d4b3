"""Whether code runs below SQLAlchemy's asyncio extension, and how it waits there.

Leans on `sqlalchemy.util.concurrency`: `in_greenlet`, `await_only` and `greenlet_spawn`.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy.util.concurrency import await_only, greenlet_spawn, in_greenlet

__all__ = [
    "among_tasks",
    "await_only",
    "finish",
    "greenlet_spawn",
    "in_greenlet",
    "pause",
    "taking_turns",
]

among_tasks: ContextVar[bool] = ContextVar("among_tasks", default=False)
"""Whether the current task shares its session with others."""


def pause(seconds: float) -> None:
    """Sleep; below asyncio, others go on meanwhile."""
    if in_greenlet():
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def finish(call: Callable[[], object]) -> None:
    """Make `call`; a task that is cancelled meanwhile, below asyncio, is so when it has ended."""
    if in_greenlet():
        await_only(_finished(greenlet_spawn(call)))
    else:
        call()


async def _finished(coroutine: Coroutine[Any, Any, object]) -> None:
    task = asyncio.ensure_future(coroutine)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


class _Turn:
    """A lock, and the task that has it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.owner: asyncio.Task[Any] | None = None


@contextmanager
def taking_turns(turns: dict[object, Any], key: object) -> Iterator[None]:
    """Let no other task enter with the same `key` of `turns` while the context lasts."""
    task = asyncio.current_task()
    turn = turns.setdefault(key, _Turn())
    if turn.owner is task:
        yield
        return
    await_only(turn.lock.acquire())
    turn.owner = task
    try:
        yield
    finally:
        turn.owner = None
        turn.lock.release()
