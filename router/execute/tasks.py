"""Calls side by side in asyncio: each is a task that runs a greenlet of SQLAlchemy's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from router.hooks.colour import among_tasks, greenlet_spawn
from router.lanes.hub import OutOfTimeError

Call = Callable[[], Any]


async def run_tasks(calls: Sequence[Call], seconds: float | None) -> None:
    """Make the calls; when one fails, cancel the others and raise its error when all ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for at, call in enumerate(calls):
                group.create_task(_limited(_spawn(call), seconds, at))
    except BaseExceptionGroup as errors:
        # The first in time; what the others met is mostly that they were cancelled.
        first = errors.exceptions[0]
        raise first from first.__cause__


async def finish_tasks(calls: Sequence[Call]) -> list[BaseException | None]:
    """Make all the calls, also when some fail; return the error of each, or None."""
    found = await asyncio.gather(*(_spawn(call) for call in calls), return_exceptions=True)
    return [one if isinstance(one, BaseException) else None for one in found]


async def _limited(call: Coroutine[Any, Any, None], seconds: float | None, at: int) -> None:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await call
    except TimeoutError as error:
        if limit.expired():
            raise OutOfTimeError([at]) from error
        raise


async def _spawn(call: Call) -> None:
    # Of this task only: each has a copy of the context it was made in.
    among_tasks.set(True)
    await greenlet_spawn(call)
