"""Synchronous and asyncio sessions of a router, behind one face: that of `Session`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from enum import Enum
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from router import Router

T = TypeVar("T")


class Colour(Enum):
    """Which kind of session is meant."""

    SYNC = "sync"
    ASYNC = "async"

    def sessions(self, router: Router) -> Callable[[], Any]:
        """Return what makes sessions that look synchronous; to be used `within`."""
        if self is Colour.SYNC:
            return router.sessionmaker()
        make = router.async_sessionmaker()
        return lambda: Awaited(make())

    def plain_sessions(self, router: Router, database: str) -> Callable[[], Any]:
        """Return what makes SQLAlchemy's own sessions, of one database; likewise."""
        if self is Colour.SYNC:
            return partial(Session, router.engines[database])
        return lambda: Awaited(AsyncSession(router.async_engines[database]))

    def within(self, call: Callable[[], T], *routers: Router) -> T:
        """Return what `call` does, in an event loop of its own where sessions need one."""
        if self is Colour.SYNC:
            return call()

        async def whole() -> T:
            async with AsyncExitStack() as stack:
                for router in routers:
                    await stack.enter_async_context(router)
                return await greenlet_spawn(call)

        return asyncio.run(whole())


class _Awaited:
    """Something whose coroutines are awaited by the greenlet that calls them."""

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._awaited, name)
        if not iscoroutinefunction(found):
            return found
        return lambda *args, **kw: _value_of(found(*args, **kw))


class Awaited(_Awaited):
    """An asyncio session that looks synchronous.

    What `AsyncSession` does not have, such as bulk methods, is that of its `sync_session`.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        await_only(self._awaited.close())

    def __contains__(self, one: object) -> bool:
        return one in self._awaited

    def __getattr__(self, name: str) -> Any:
        # Savepoints are context managers of the one kind or the other.
        if name == "begin_nested" or not hasattr(AsyncSession, name):
            return getattr(self._awaited.sync_session, name)
        return super().__getattr__(name)

    def execute(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """Execute a statement, by `stream` if its rows are to come as they are asked for."""
        options = statement.get_execution_options()
        if options.get("stream_results") or options.get("yield_per"):
            return _Awaited(_value_of(self._awaited.stream(statement, *args, **kw)))
        return _value_of(self._awaited.execute(statement, *args, **kw))


def _value_of(coroutine: Awaitable[T]) -> T:
    """Return what a coroutine returns, which a greenlet would keep until it awaits another."""
    found: list[T] = []

    async def finish() -> None:
        found.append(await coroutine)

    await_only(finish())
    return found.pop()
