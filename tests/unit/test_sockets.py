"""Lanes whose driver calls wait for sockets: they share one thread, and nothing is left."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

import pytest

from router.execute.parallel import run_all
from router.lanes.events import Bell, Events, Glance
from router.lanes.hub import Hub, OutOfTimeError
from router.lanes.lane import AbandonedError, LostError, current_lane
from router.lanes.link import Link
from router.lanes.pace import Fixed
from router.lanes.workers import Job, Workers

PATIENCE = 60


class Line:
    """A connection to a server that answers when it is told to."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.settimeout(PATIENCE)
        self.until_ready: Callable[[int, int], int] | None = None
        self.cancelled = self.severed = False
        self.reacts = self.breaks = True
        self.link = Link(
            Workers(), Fixed(True), cancel=Line.cancel, sever=Line.sever, drive=Line.drive
        )

    def drive(self, call: Callable[[], Any], until_ready: Callable[[int, int], int]) -> Any:
        """Make a call that waits as it is told."""
        self.until_ready = until_ready
        try:
            return call()
        finally:
            self.until_ready = None

    def cancel(self) -> None:
        """Let the server answer, if it listens."""
        self.cancelled = True
        if self.reacts:
            self.answer("!")

    def sever(self) -> None:
        """Cut the connection, if that helps."""
        self.severed = True
        if self.breaks:
            self.there.close()

    def answer(self, what: str) -> None:
        """Send letters to who waits."""
        self.there.sendall(what.encode())

    def receive(self, count: int = 1, **options: Any) -> Any:
        """Make a driver call that waits for `count` answers of a letter each."""
        lane = current_lane()
        call = partial(self._receive, count)
        if lane is None:
            return call()
        return lane.wait(call, self.link, "receive", connection=self, **options)

    def _receive(self, count: int) -> str:
        found = ""
        for _ in range(count):
            if self.until_ready is not None:
                assert self.until_ready(self.here.fileno(), EVENT_READ) & EVENT_READ
            found += self.here.recv(1).decode() or "-"
        return found


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """Three lines."""
    with ExitStack() as stack:
        made = [Line() for _ in range(3)]
        for line in made:
            stack.enter_context(line.here)
            stack.enter_context(line.there)
        yield made


def in_thread(call: Callable[[], Any]) -> Any:
    """Make a driver call in a thread, from the lane we are in."""
    lane: Any = current_lane()
    link = Link(Workers(), Fixed(True), cancel=lambda _: None, sever=lambda _: None)
    return lane.wait(call, link, "call", connection=object())


def fail() -> Any:
    """Raise what a driver could raise."""
    raise RuntimeError("broken")


# -- what overlaps ------------------------------------------------------------------------------


def test_one_thread_waits_for_all(lines: list[Line]) -> None:
    """Answers come in any order, and no thread is made."""
    one, other, last = lines

    def answering(line: Line) -> Any:
        line.answer("ab")
        return last.receive()

    calls = [lambda: one.receive(2), lambda: other.receive(), lambda: answering(one)]
    last.answer("c")
    other.answer("d")
    assert run_all(calls) == ["ab", "d", "c"]
    assert [line.link.workers.count for line in lines] == [0, 0, 0]
    assert [line.link.busy for line in lines] == [{}, {}, {}]


def test_a_job_that_ends_while_sockets_are_waited_for(lines: list[Line]) -> None:
    """Its lane goes on, and does what the other one waits for; then the other way round."""
    one, go = lines[0], threading.Event()

    def answering() -> Any:
        in_thread(lambda: threading.Event().wait(0.05))
        one.answer("a")
        in_thread(lambda: go.wait(PATIENCE))

    def receiving() -> Any:
        found = one.receive()
        go.set()
        return found

    assert run_all([receiving, answering]) == ["a", None]


def test_a_glance_does_not_wait() -> None:
    """It tells what a socket is ready for now; a broken one is ready for what raises its error."""
    here, there = socket.socketpair()
    with here, there:
        wants_both = Glance(here.fileno(), EVENT_READ | EVENT_WRITE)
        wants_answer = Glance(here.fileno(), EVENT_READ)
        assert (wants_both(), wants_answer()) == (EVENT_WRITE, 0)
        there.send(b"!")
        assert (wants_both(), wants_answer()) == (EVENT_READ | EVENT_WRITE, EVENT_READ)
        here.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                here.send(b"." * 4096)
        assert wants_both() == EVENT_READ
        there.close()
        assert wants_answer() & EVENT_READ


def test_a_job_that_ends_before_the_first_wait(lines: list[Line]) -> None:
    """It is not overlooked although nobody could ring."""
    events = Events()
    watched = events.watch(lines[0].here.fileno(), EVENT_READ)
    job = Job(fail, events.put)
    job()
    assert events.wait(None, jobs=True) == [job]
    lines[0].answer("a")
    assert events.wait(None, jobs=True) == [watched]
    assert watched.ready == EVENT_READ
    late = Job(fail, events.put)
    events.close()
    late()


def test_a_bell() -> None:
    """However often it has rung, it is silenced at once; it may ring after its end."""
    bell = Bell()
    for _ in range(100_000):
        bell.ring()
    bell.silence()
    events = Events()
    events.watch(bell.fileno(), EVENT_READ)
    assert events.wait(0.0, jobs=False) == []
    bell.close()
    bell.ring()


def test_a_socket_that_is_closed_is_ready(lines: list[Line]) -> None:
    """Who reads from it learns why."""
    lines[0].there.close()
    assert run_all([lines[0].receive, lambda: None]) == ["-", None]


def test_alone(lines: list[Line]) -> None:
    """Who must not let others go on waits in its place."""
    seen: list[str] = []

    def alone() -> Any:
        lane: Any = current_lane()
        with lane.alone():
            lines[0].answer("a")
            seen.append(lines[0].receive())

    run_all([alone, lambda: seen.append("other")])
    assert seen == ["a", "other"]


def test_a_call_within_a_call(lines: list[Line]) -> None:
    """A driver call that makes another one of the same connection goes on by itself."""
    one, other, _ = lines

    def nested() -> Any:
        lane: Any = current_lane()
        return lane.wait(one.receive, one.link, "call", connection=one)

    def answering() -> None:
        one.answer("a")
        other.answer("b")

    assert run_all([nested, other.receive, answering]) == ["a", "b", None]
    assert one.link.busy == {}


# -- failures -----------------------------------------------------------------------------------


def test_an_error_cancels_the_others(lines: list[Line]) -> None:
    """What they wait for ends; their next call is refused, unless it cleans up."""
    seen: list[str] = []

    def clean_up(line: Line) -> Any:
        seen.append(line.receive())
        try:
            line.receive()
        finally:
            line.answer("r")
            seen.append(line.receive(cleans=True))

    calls: list[Callable[[], Any]] = [partial(clean_up, lines[0]), fail]
    with pytest.raises(RuntimeError):
        run_all(calls)
    assert seen == ["!", "r"]
    assert not lines[0].severed


def test_out_of_time(lines: list[Line]) -> None:
    """Those that have not ended are named, and cancelled."""
    one, other, _ = lines
    with pytest.raises(OutOfTimeError) as caught:
        Hub([lambda: None, one.receive, other.receive], seconds=0.05).run()
    assert caught.value.lanes == [1, 2]
    assert one.cancelled
    assert other.cancelled


def test_a_server_that_does_not_react(lines: list[Line], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is cut; if even that does not help, the call is left."""
    monkeypatch.setattr("router.lanes.hub.CANCEL_SECONDS", 0.05)
    monkeypatch.setattr("router.lanes.hub.SEVER_SECONDS", 0.05)
    cut, deaf, closed = lines[0], lines[1], threading.Event()
    cut.reacts = deaf.reacts = deaf.breaks = False
    seen: list[object] = []

    def wait(line: Line) -> Any:
        try:
            seen.append(line.receive())
        except LostError as error:
            seen.append(type(error))
            with pytest.raises(AbandonedError):
                line.receive()
            line.link.when_free(line, closed.set)
            raise

    calls: list[Callable[[], Any]] = [partial(wait, cut), partial(wait, deaf), fail]
    with pytest.raises(RuntimeError):
        run_all(calls)
    assert seen == ["-", LostError]
    assert closed.is_set()


def test_giving_up_a_call_of_several_waits(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that waits once more while it is given up does not stay."""
    monkeypatch.setattr("router.lanes.hub.CANCEL_SECONDS", 0.01)
    monkeypatch.setattr("router.lanes.hub.SEVER_SECONDS", 0.01)
    line, seen = lines[0], []
    line.reacts = line.breaks = False

    def call() -> None:
        try:
            line._receive(1)
        finally:
            with pytest.raises(LostError):
                line._receive(1)
            seen.append("left")

    def wait() -> Any:
        lane: Any = current_lane()
        lane.wait(call, line.link, "call", connection=line)

    with pytest.raises(RuntimeError):
        run_all([wait, fail])
    assert seen == ["left"]


# -- runs in runs -------------------------------------------------------------------------------


def test_the_connection_of_a_lane_around(lines: list[Line]) -> None:
    """Who needs it in a run inside lets its call end first, of however many waits it is."""
    one, other, _ = lines

    def inner() -> Any:
        return run_all([one.receive, other.receive])

    def answering() -> Any:
        one.answer("abc")
        other.answer("d")

    assert run_all([lambda: one.receive(2), inner, answering]) == ["ab", ["c", "d"], None]


def test_a_failure_around_a_lane_that_waits_for_a_connection(lines: list[Line]) -> None:
    """It ends, and the run that it is in; nothing waits for what will not come."""
    one, other, _ = lines
    seen: list[str] = []

    def inner() -> Any:
        try:
            run_all([other.receive, one.receive])
        except AbandonedError:
            seen.append("abandoned")
            raise

    with pytest.raises(RuntimeError):
        run_all([one.receive, inner, fail])
    assert seen == ["abandoned"]
    assert other.cancelled


def test_a_failure_inside_a_lane_that_waited_for_a_connection(lines: list[Line]) -> None:
    """It is noticed although the run around let a lane of the inner one go on."""
    one, other, _ = lines

    def receive_and_fail() -> Any:
        one.receive()
        fail()

    def inner() -> Any:
        run_all([receive_and_fail, lambda: None])

    with pytest.raises(RuntimeError):
        run_all([one.receive, inner, lambda: one.answer("ab"), other.receive])
    assert other.cancelled
