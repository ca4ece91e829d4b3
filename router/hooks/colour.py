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
from typing import Any, TypeVar

from sqlalchemy.util.concurrency import await_only, greenlet_spawn, in_greenlet

from router.lanes.lane import current_lane

__all__ = [
    "among_tasks",
    "await_only",
    "begin",
    "finish",
    "greenlet_spawn",
    "in_greenlet",
    "pause",
    "settle",
    "taking_turns",
]

T = TypeVar("T")

GRACE_SECONDS = 3.0

among_tasks: ContextVar[bool] = ContextVar("among_tasks", default=False)
"""Whether the current task shares its session with others."""


def pause(seconds: float) -> None:
    """Sleep; in a lane or below asyncio, others go on meanwhile."""
    lane = current_lane()
    if lane is not None:
        lane.sleep(seconds)
    elif in_greenlet():
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def finish(call: Callable[[], object]) -> None:
    """Make `call`; a task that is cancelled meanwhile, below asyncio, is so when it has ended."""
    if in_greenlet():
        await_only(_finished(greenlet_spawn(call)))
    else:
        call()


async def _finished(coroutine: Coroutine[Any, Any, object], grace: float | None = None) -> None:
    task = asyncio.ensure_future(coroutine)
    cancelled = await _until_done(task, grace)
    task.result()
    if cancelled is not None:
        raise cancelled


def settle(call: Callable[[], object]) -> None:
    """Make a `call` that cleans up.

    A task that is cancelled meanwhile, below asyncio, lets it go on for up to `GRACE_SECONDS`.
    """
    if in_greenlet():
        await_only(_finished(greenlet_spawn(call), GRACE_SECONDS))
    else:
        call()


def begin(call: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Return what `call` does; for a task that is cancelled meanwhile, `undo` it first.

    Some calls leave something open when they are interrupted.  So `call` is let go on, below
    asyncio, for up to `GRACE_SECONDS` after its task was cancelled.
    """
    made: T = await_only(_begun(call, undo))
    return made


async def _begun(call: Callable[[], T], undo: Callable[[T], object]) -> T:
    task: asyncio.Task[T] = asyncio.ensure_future(greenlet_spawn(call))
    cancelled = await _until_done(task, GRACE_SECONDS)
    if cancelled is None:
        return task.result()
    if not task.cancelled() and task.exception() is None:
        await _finished(greenlet_spawn(undo, task.result()))
    raise cancelled


async def _until_done(
    task: asyncio.Task[Any], grace: float | None
) -> asyncio.CancelledError | None:
    """Wait for `task`, also when cancelled; then for `grace` seconds before it is cancelled."""
    cancelled = None
    while not task.done():
        try:
            done, _ = await asyncio.wait([task], timeout=grace if cancelled else None)
            if not done:
                task.cancel()
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


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
