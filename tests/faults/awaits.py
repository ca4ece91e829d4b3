"""Every moment at which something asyncio runs gives way, and what is done to a task there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Generator
from typing import Any


class Awaits:
    """Counts how often the tasks of the running loop give way, and strikes at some such moments.

    A task gives way where it waits for anything; so does each task that it has made.
    """

    def __init__(self) -> None:
        self.count = 0
        self._moments: Collection[int] = ()
        self._strike: Callable[[], object] = int
        asyncio.get_running_loop().set_task_factory(self._task)

    def arm(self, moments: Collection[int], strike: Callable[[], object]) -> None:
        """Strike at each of `moments`, which are counted from 1, beginning now."""
        self.count, self._moments, self._strike = 0, moments, strike

    def disarm(self) -> int:
        """Strike no more; return how many moments there were."""
        self._moments = ()
        return self.count

    def note(self) -> None:
        """Count a moment."""
        self.count += 1
        if self.count in self._moments:
            self._strike()

    def _task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(self._counted(coroutine), loop=loop, **options)

    async def _counted(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await _Noted(coroutine, self)


class _Noted:
    """A coroutine that says whenever it gives way."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaits: Awaits) -> None:
        self._coroutine = coroutine
        self._awaits = awaits

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    awaited = self._coroutine.send(None)
                else:
                    awaited = self._coroutine.throw(error)
            except StopIteration as end:
                return end.value
            self._awaits.note()
            error = None
            try:
                yield awaited
            except BaseException as thrown:  # noqa: BLE001 - it is for the coroutine
                error = thrown
