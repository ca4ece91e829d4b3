"""A lane that sleeps lets others go on."""

from __future__ import annotations

import pytest

from router.hooks.colour import pause
from router.lanes.hub import Hub, OutOfTimeError
from router.lanes.lane import AbandonedError, Lane, current_lane


def lane() -> Lane:
    """Return the lane in which this is called."""
    found = current_lane()
    assert found is not None
    return found


def test_others_go_on() -> None:
    """Each for as long as it says, whatever the order in which they began."""
    seen: list[str] = []

    def sleep(name: str, seconds: float) -> None:
        pause(seconds)
        seen.append(name)

    Hub([lambda: sleep("long", 0.3), lambda: sleep("short", 0.01)]).run()
    assert seen == ["short", "long"]


def test_one_that_waits_for_another() -> None:
    """It may ask again and again, as long as the other one takes."""
    left = [3]

    def wait() -> None:
        while left[0]:
            pause(0.001)

    def work() -> None:
        while left[0]:
            pause(0.001)
            left[0] -= 1

    Hub([wait, work]).run()
    assert left == [0]


def test_alone() -> None:
    """Nobody goes on beside a lane that must be alone."""
    seen: list[str] = []

    def work(name: str) -> None:
        with lane().alone():
            seen.append(name)
            pause(0.01)
            seen.append(name)

    Hub([lambda: work("a"), lambda: work("b")]).run()
    assert seen == ["a", "a", "b", "b"]


def test_the_time_is_over() -> None:
    """A lane that sleeps is late as any other is, and goes no further."""
    went_on: list[int] = []

    def sleep() -> None:
        while True:
            pause(0.01)
            went_on.append(1)

    with pytest.raises(OutOfTimeError) as caught:
        Hub([sleep, lambda: None], 0.05).run()
    assert caught.value.lanes == [0]
    count = len(went_on)
    Hub([lambda: pause(0.05)]).run()
    assert len(went_on) == count


def test_a_failure() -> None:
    """One that sleeps when another fails is stopped at its next step."""
    ended: list[type[BaseException]] = []

    def sleep() -> None:
        try:
            while True:
                pause(0.001)
        except BaseException as error:
            ended.append(type(error))
            raise

    def fail() -> None:
        pause(0.01)
        raise LookupError

    with pytest.raises(LookupError):
        Hub([sleep, fail]).run()
    assert ended == [AbandonedError]
