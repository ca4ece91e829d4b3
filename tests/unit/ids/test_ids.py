"""Makers of ids, without a database."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import RoutingError, ids
from router.ids.layout import START, Layout
from router.ids.leases import Reservation
from router.ids.ticks import Ticks
from router.ids.time_ids import Maker

NOON = 1_800_000_000_000


class Clock:
    """A clock that says what it is told."""

    def __init__(self, *times: int) -> None:
        self.times = list(times)

    def __call__(self) -> int:
        """Return the next time, the last one for ever."""
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 3))
def test_ticks_only_go_forward(times: list[int], size: int) -> None:
    """Whatever the clock does, every pair is greater than the one before."""
    ticks = Ticks(size, Clock(*times))
    pairs = [ticks.next() for _ in range(3 * len(times))]
    assert pairs == sorted(set(pairs))
    assert all(number < size for _, number in pairs)


def test_ticks_follow_the_clock() -> None:
    """They are as late as the clock, and begin anew with every millisecond."""
    ticks = Ticks(2, Clock(5, 5, 5, 9, 9, 3))
    assert [ticks.next() for _ in range(6)] == [(5, 0), (5, 1), (6, 0), (9, 0), (9, 1), (10, 0)]
    assert ticks.next(not_before=20) == (20, 0)


def test_uuid7() -> None:
    """Version and variant of RFC 9562, the time of now, and in order."""
    made = [ids.uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert {(one.version, one.variant) for one in made} == {(7, "specified in RFC 4122")}
    now = datetime.now(UTC).timestamp() * 1000
    assert abs((made[-1].int >> 80) - now) < 5000
    assert isinstance(made[0], UUID)


def test_time_ids() -> None:
    """In order, 64 bits, with time and node in them."""
    make = ids.TimeIds(node=5)
    made = [make() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert 0 < made[0] < 1 << 63
    assert {make.node_of(one) for one in made} == {5}
    assert abs(make.time_of(made[-1]) - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_clock_that_is_set_back() -> None:
    """Ids go on from the last one."""
    make = ids.TimeIds(node=1, now=Clock(NOON, NOON - 3_600_000))
    made = [make() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert make.time_of(made[-1]) - make.time_of(made[0]) == timedelta(milliseconds=2)


def test_threads() -> None:
    """Many threads of one maker never get the same id."""
    make = ids.TimeIds(node=1, now=Clock(NOON))
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda _: [make() for _ in range(5000)], range(8)))
    assert len({one for part in parts for one in part}) == 40_000
    assert all(part == sorted(part) for part in parts)


@given(st.integers(0, 18), st.integers(0, 18), st.data())
def test_layouts(node_bits: int, bucket_bits: int, data: st.DataObject) -> None:
    """What is put into an id is read from it."""
    if node_bits + bucket_bits > 18:
        with pytest.raises(RoutingError, match="R801"):
            Layout(node_bits, bucket_bits)
        return
    layout = Layout(node_bits, bucket_bits)
    node = data.draw(st.integers(0, (1 << node_bits) - 1))
    bucket = data.draw(st.integers(0, (1 << bucket_bits) - 1))
    number = data.draw(st.integers(0, (1 << layout.number_bits) - 1))
    found = layout.compose(NOON, bucket, node, number)
    assert (layout.node_of(found), layout.bucket_of(found)) == (node, bucket)
    assert layout.time_of(found) == datetime.fromtimestamp(NOON / 1000, UTC)
    assert found < layout.compose(NOON + 1, 0, 0, 0) < 1 << 63


def test_times_that_no_id_holds() -> None:
    """Before 2025, and after 69 years."""
    start = int(START.timestamp() * 1000)
    for now in (start - 1, start + (1 << 41)):
        with pytest.raises(RoutingError, match="R802"):
            ids.TimeIds(node=1, now=Clock(now))()
    assert ids.TimeIds(node=0, now=Clock(start))() < 4


def test_a_node_that_is_too_large() -> None:
    """It would be another node's."""
    with pytest.raises(RoutingError, match="R803 node 16 of 0 to 15"):
        ids.TimeIds(node=16, node_bits=4)


def test_a_fixed_node_is_not_its_childs() -> None:
    """A forked child would make the same ids."""
    make = ids.TimeIds(node=1)
    make()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            make()
        except RoutingError as error:
            os.write(writer, error.id.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"R804"
    os.close(reader)
    os.close(writer)
    make()


class Windows:
    """Nodes that are reserved for a few milliseconds at a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def reserve(self, millisecond: int) -> Reservation:
        """Return another node each time, for the three milliseconds after a pause of two."""
        self.asked.append(millisecond)
        return Reservation(len(self.asked) % 4, millisecond + 2, millisecond + 4)


def test_ids_stay_within_what_is_reserved() -> None:
    """At the end of a window the next one is reserved, and order is kept."""
    windows, layout = Windows(), Layout(2)
    maker = Maker(0, layout, Clock(*range(NOON, NOON + 40)))
    maker._nodes = windows
    made = [maker.make() for _ in range(30)]
    assert made == sorted(set(made))
    reserved = [(asked + 2, asked + 4, at + 1) for at, asked in enumerate(windows.asked)]
    for one in made:
        time = round(layout.time_of(one).timestamp() * 1000)
        (node,) = [n for first, last, n in reserved if first <= time <= last]
        assert layout.node_of(one) == node % 4
    assert len(windows.asked) > 3
