"""Lets several connections of psycopg wait in one thread.

psycopg writes each call as a generator that says what it waits for.  While a lane makes a
call, its connection waits by what the lane offers; at any other time it is left as it is.
Leans on psycopg's `Connection.wait`, to which every call of a connection and of its cursors
gives such a generator, which yields `Wait` and is sent `Ready`, whose values are those of
`selectors`; on `pgconn.socket`; and on what `Connection.wait` does after Control-C: it asks the
server to stop and goes on with the generator.  Checked against psycopg 3.2.13 and 3.3.9, with
and without its C implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from router.lanes.events import Glance

UntilReady = Callable[[int, int], int]
"""Waits until a socket is ready for what is wanted of it; returns what it is ready for."""

_BOTH = EVENT_READ | EVENT_WRITE
_INTERRUPTED = (KeyboardInterrupt, SystemExit)


def drive(connection: Any, call: Callable[[], Any], until_ready: UntilReady) -> Any:
    """Make a call of `connection`, which waits by `until_ready` meanwhile."""
    connection.wait = partial(_wait, connection, until_ready)
    try:
        return call()
    finally:
        del connection.wait


def _wait(
    connection: Any,
    until_ready: UntilReady,
    generator: Generator[int, int, Any],
    *rest: Any,
    **options: Any,
) -> Any:
    if rest or options:
        # Calls that limit their time themselves; SQLAlchemy makes none.
        return type(connection).wait(connection, generator, *rest, **options)
    fileno, state = connection.pgconn.socket, None
    sends: Glance | None = None
    try:
        state = next(generator)
        while True:
            ready = 0
            if state == _BOTH:
                # It has something to send, row after row perhaps, and most often it can.
                sends = sends or Glance(fileno, state)
                ready = sends()
            state = generator.send(ready or until_ready(fileno, state))
    except StopIteration as end:
        return end.value
    except _INTERRUPTED as error:
        return type(connection).wait(connection, _Interrupted(generator, state, error))
    finally:
        generator.close()


class _Interrupted:
    """A generator in the middle that raises an interruption first and goes on afterwards."""

    def __init__(self, generator: Any, state: int | None, error: BaseException) -> None:
        self._generator = generator
        self._state = state
        self._error: BaseException | None = error

    def __next__(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return next(self._generator) if self._state is None else self._state

    def send(self, ready: int) -> Any:
        """Send to the generator."""
        return self._generator.send(ready)


class Begun:
    """A generator that has begun to wait, for what begins with `next`."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.send = generator.send

    def __next__(self) -> Any:
        # What it waits for may be there already; if not, it says so once more.
        return self._generator.send(EVENT_READ)
