"""Lanes are used again, and nothing of what they did before is left in them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent

from router.lanes.hub import Hub
from router.lanes.lane import MOST_IDLE, Lane

variable: ContextVar[int] = ContextVar("variable", default=0)


class Thing:
    """Something that a call refers to."""


def lanes() -> int:
    """Return how many lanes there are."""
    gc.collect()
    return sum(type(one) is Lane for one in gc.get_objects())


def succeed(thing: Thing) -> None:
    """Make a run that refers to `thing`."""
    Hub([lambda: thing, lambda: thing]).run()


def fail(thing: Thing) -> None:
    """Make a run that refers to `thing` and fails."""

    def bad() -> None:
        raise ValueError(thing)

    with pytest.raises(ValueError, match="Thing"):
        Hub([bad, lambda: thing]).run()


@pytest.mark.parametrize("run", [succeed, fail])
def test_nothing_is_kept(run: Callable[[Thing], None]) -> None:
    """What a run refers to can go with it; its lanes can be used again, or go."""
    before = lanes()
    things = []
    for _ in range(50):
        thing = Thing()
        things.append(weakref.ref(thing))
        run(thing)
        del thing
    assert lanes() <= before + 2
    assert [one() for one in things] == [None] * 50


def test_few_are_kept() -> None:
    """A thread keeps some, and none when it ends."""
    before = lanes()
    Hub([lambda: None] * (3 * MOST_IDLE)).run()
    assert lanes() <= before + MOST_IDLE
    before = lanes()
    for _ in range(10):
        thread = threading.Thread(target=lambda: Hub([lambda: 1] * 3).run())
        thread.start()
        thread.join()
    assert lanes() <= before


def test_they_are_used_again() -> None:
    """A later run has the same lanes, its own values and its own context."""

    def call(value: int) -> Callable[[], Any]:
        return lambda: (getcurrent(), variable.get(), value)

    variable.set(1)
    first = Hub([call(1), call(2)]).run()
    variable.set(2)
    second = Hub([call(3), call(4)]).run()
    assert {id(one[0]) for one in first} == {id(one[0]) for one in second}
    assert [one[1:] for one in first] == [(1, 1), (1, 2)]
    assert [one[1:] for one in second] == [(2, 3), (2, 4)]


def test_runs_in_runs() -> None:
    """Lanes of inner runs go back to theirs, whoever used them before."""

    def inner(count: int) -> list[int]:
        return Hub([lambda at=at: at for at in range(count)]).run()  # type: ignore[misc]

    for _ in range(3):
        outer = Hub([lambda: Hub([lambda: inner(2), lambda: inner(3)]).run(), lambda: inner(4)])
        assert outer.run() == [[[0, 1], [0, 1, 2]], [0, 1, 2, 3]]


def test_a_call_that_exits() -> None:
    """It has failed, and its lane is not used again: a later call would not be made."""

    def leave() -> None:
        raise GreenletExit

    def run() -> None:
        with pytest.raises(GreenletExit):
            Hub([leave, lambda: 1]).run()

    run()
    Hub([run, run]).run()
    for _ in range(3):
        assert Hub([lambda: "x", lambda: "y", lambda: "z"]).run() == ["x", "y", "z"]
