"""Makes calls on several databases side by side, in both colours: threads and asyncio.

Every call runs on the caller's thread, one at a time; only what it waits for overlaps.  So the
calls may use one session, whose state no two of them change at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.exc import StatementError

from router.errors import RouterError, ShardUnavailableError
from router.execute.tasks import finish_tasks, run_tasks
from router.hooks.colour import await_only, in_greenlet
from router.hooks.statements import locks_rows
from router.lanes.hub import Hub, OutOfTimeError
from router.route.target import Destination

T = TypeVar("T")


class Order(Enum):
    """Whether calls may overlap."""

    ANY = "side by side"
    FIXED = "one after another, as locks have to be taken"

    @classmethod
    def of(cls, statement: Any) -> Order:
        """Return the order in which several shards have to execute a read."""
        return cls.FIXED if locks_rows(statement) else cls.ANY


def run_all(
    calls: Sequence[Callable[[], T]],
    destinations: Sequence[Destination] = (),
    *,
    order: Order = Order.ANY,
    seconds: float | None = None,
    undo: Callable[[T], object] | None = None,
) -> list[T]:
    """Make every call and return what they return, in their order.

    When one fails, those under way are cancelled; its error is raised when no call uses a
    connection any more, and says which shard it is from.

    Parameters
    ----------
    destinations:
        Where each call goes.  Calls to one database are made one after another; without
        destinations, each has to go to a database of its own.
    order:
        `Order.FIXED` for everything that locks rows: sessions that take their locks on
        several databases in different orders would wait for each other forever.
    seconds:
        The time that each shard has.
    undo:
        What to do with what calls have returned when another one fails; as with results, whose
        rows would stay on their way.

    Raises
    ------
    ShardUnavailableError
        A shard did not answer in time.
    """
    places: Sequence[Destination | None] = destinations or [None] * len(calls)
    steps = [_Step(call, place) for call, place in zip(calls, places, strict=True)]
    try:
        if order is Order.FIXED or len(steps) == 1:
            for step in steps:
                _run([[step]], seconds)
        else:
            _run(_by_database(steps), seconds)
    except BaseException:
        if undo is not None:
            _undo(steps, undo)
        raise
    return [step.value for step in steps]


def finish_all(calls: Sequence[Callable[[], object]]) -> None:
    """Make every call, even when some fail; raise the first error when all have ended."""
    if len(calls) < 2:
        for call in calls:
            call()
        return
    errors = await_only(finish_tasks(calls)) if in_greenlet() else Hub(calls).finish()
    for error in errors:
        if error is not None:
            raise error


class _Step:
    """One call, and what it returned."""

    __slots__ = ("_call", "destination", "has_returned", "value")

    def __init__(self, call: Callable[[], Any], destination: Destination | None) -> None:
        self._call = call
        self.destination = destination
        self.value: Any = None
        self.has_returned = False

    def __call__(self) -> None:
        try:
            self.value = self._call()
            self.has_returned = True
        except Exception as error:
            if self.destination is not None:
                _name(error, self.destination)
            raise


def _undo(steps: Sequence[_Step], undo: Callable[[Any], object]) -> None:
    for step in steps:
        if step.has_returned:
            # What has failed first is what the caller wants to know.
            with suppress(Exception):
                undo(step.value)


def _by_database(steps: Sequence[_Step]) -> list[list[_Step]]:
    lanes: dict[object, list[_Step]] = {}
    for step in steps:
        key = step.destination.database if step.destination is not None else step
        lanes.setdefault(key, []).append(step)
    return list(lanes.values())


def _run(lanes: Sequence[Sequence[_Step]], seconds: float | None) -> None:
    if len(lanes) == 1 and seconds is None:
        _walk(lanes[0])
        return
    calls = [partial(_walk, lane) for lane in lanes]
    try:
        if in_greenlet():
            await_only(run_tasks(calls, seconds))
        else:
            Hub(calls, seconds).run()
    except OutOfTimeError as error:
        late = [lanes[at][0].destination for at in error.lanes]
        raise _unanswered(late, seconds, error) from error


def _walk(lane: Sequence[_Step]) -> None:
    for step in lane:
        step()


# -- errors ------------------------------------------------------------------------------------


def _name(error: Exception, destination: Destination) -> None:
    """Let `error` say where it comes from, unless it does."""
    where = f"on {_described(destination)}"
    if isinstance(error, RouterError) or not isinstance(error, StatementError):
        error.add_note(where)
    elif not any(detail.startswith("on ") for detail in error.detail):
        error.add_detail(where)


def _described(destination: Destination | None) -> str:
    if destination is None:
        return "a database"
    if destination.shard is None:
        return f"database {destination.database}"
    return f"shard {destination.shard}, database {destination.database}"


def _unanswered(
    late: Sequence[Destination | None], seconds: float | None, cause: Exception
) -> ShardUnavailableError:
    first = late[0]
    who = "; ".join(_described(one) for one in late)
    limit = f" within {seconds:g} s" if seconds is not None else ""
    database = first.database if first is not None else ""
    return ShardUnavailableError(database, f"no answer{limit} from {who}", cause, id="R502")
