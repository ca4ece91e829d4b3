"""Lanes, workers and pace by themselves: who runs where, and what is left when it goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from router import CrossShardError
from router.execute.parallel import Order, finish_all, run_all
from router.lanes.hub import Hub, OutOfTimeError
from router.lanes.lane import current_lane
from router.lanes.link import Link
from router.lanes.pace import Fixed, Measured, Pace
from router.lanes.workers import Job, Workers
from router.route.target import Destination

PATIENCE = 60
DESTINATIONS = [Destination(f"d{number}", f"shop/s{number}") for number in range(3)]


class Server:
    """What a link leads to; calls that hang there end when they are cancelled or severed."""

    def __init__(self, pace: Pace | None = None, workers: Workers | None = None) -> None:
        self.cancelled = threading.Event()
        self.severed = threading.Event()
        self.link = Link(
            workers or Workers(),
            pace or Fixed(True),
            cancel=lambda _: self.cancelled.set(),
            sever=lambda _: self.severed.set(),
        )

    def call(self, call: Callable[[], Any], connection: Any = None, **options: Any) -> Any:
        """Make a driver call from the lane we are in."""
        lane = current_lane()
        if lane is None:
            return call()
        return lane.wait(call, self.link, "call", connection=connection, **options)

    def hang(self, event: str = "cancelled") -> str:
        """Make a call that ends when it is made to."""
        return self.call(partial(_ended, getattr(self, event)), connection=object())


def _ended(event: threading.Event) -> str:
    if not event.wait(PATIENCE):
        raise TimeoutError("nobody ended the call")
    return "ended"


def fail() -> None:
    """Raise what a driver could raise."""
    raise OperationalError("SELECT 1", {}, Exception("broken"))


# -- lanes --------------------------------------------------------------------------------------


def test_only_driver_calls_leave_the_thread() -> None:
    """Two calls meet in two other threads; what is around them stays here."""
    server, meeting = Server(), threading.Barrier(2)
    threads: set[str] = set()

    def call(number: int) -> tuple[int, int]:
        before = threading.get_ident()

        def driver() -> int:
            threads.add(threading.current_thread().name)
            meeting.wait(PATIENCE)
            return number

        found = server.call(driver)
        assert threading.get_ident() == before == threading.main_thread().ident
        return number, found

    assert run_all([partial(call, 1), partial(call, 2)]) == [(1, 1), (2, 2)]
    assert threads == {"router"}


def test_context_variables() -> None:
    """A lane has those of its caller, and what it sets is seen there; drivers see them, too."""
    name: ContextVar[str] = ContextVar("name", default="nobody")
    name.set("somebody")
    server = Server()

    def call(new: str) -> tuple[str, Any]:
        before = name.get()
        found = server.call(name.get)
        name.set(new)
        return before, found

    assert run_all([partial(call, "a"), partial(call, "b")])[0] == ("somebody", "somebody")
    assert name.get() in {"a", "b"}


def test_calls_to_one_database_follow_each_other() -> None:
    """They share a connection, which only one call may use at a time."""
    server, order = Server(), []

    def call(number: int) -> None:
        order.append(number)
        server.call(lambda: None, connection=server)
        order.append(number)

    one, other = DESTINATIONS[:2]
    run_all([partial(call, 0), partial(call, 1), partial(call, 2)], [one, other, one])
    assert [number for number in order if number != 1] == [0, 0, 2, 2]


def test_a_connection_is_used_by_one_lane_at_a_time() -> None:
    """Even if nobody said that two calls go to the same database."""
    server, using = Server(), threading.Lock()

    def driver() -> bool:
        free = using.acquire(blocking=False)
        if free:
            threading.Event().wait(0.01)
            using.release()
        return free

    def call() -> list[bool]:
        return [server.call(driver, connection=server) for _ in range(5)]

    assert run_all([call] * 4) == [[True] * 5] * 4


def test_runs_in_runs() -> None:
    """A lane may have lanes of its own, and use the connection of one around it."""
    server, meeting = Server(), threading.Barrier(2)
    started = threading.Event()

    def outer() -> Any:
        return server.call(lambda: (started.set(), 1)[1], connection=server)

    def inner() -> Any:
        started.wait(PATIENCE)
        met = run_all([lambda: server.call(lambda: meeting.wait(PATIENCE))] * 2)
        return sorted(met), server.call(lambda: 2, connection=server)

    assert run_all([outer, inner]) == [1, ([0, 1], 2)]


def test_fixed_order() -> None:
    """One call after another, without lanes."""
    seen: list[Any] = []
    run_all([lambda: seen.append(current_lane())] * 2, order=Order.FIXED)
    assert seen == [None, None]


def test_nothing_to_do() -> None:
    """No calls, no results."""
    assert run_all([]) == []
    finish_all([])


# -- failures -----------------------------------------------------------------------------------


def test_an_error_cancels_the_others() -> None:
    """A call that would hang is cancelled; no lane goes on afterwards."""
    server, beyond = Server(), []

    def hang() -> None:
        server.hang()
        server.call(lambda: beyond.append("a statement"))

    def clean_up() -> None:
        try:
            server.hang()
        finally:
            server.call(lambda: beyond.append("a rollback"), cleans=True)

    with pytest.raises(OperationalError, match="on shard shop/s2, database d2"):
        run_all([hang, clean_up, lambda: server.call(fail)], DESTINATIONS)
    assert server.cancelled.is_set()
    assert not server.severed.is_set()
    assert beyond == ["a rollback"]


def test_a_call_that_cannot_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is cut."""
    monkeypatch.setattr("router.lanes.hub.CANCEL_SECONDS", 0.1)
    server = Server()
    with pytest.raises(OperationalError):
        run_all([lambda: server.hang("severed"), fail])
    assert server.severed.is_set()
    assert server.link.busy == {}


def test_a_driver_that_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it; its connection is closed when it does come back."""
    monkeypatch.setattr("router.lanes.hub.CANCEL_SECONDS", 0.05)
    monkeypatch.setattr("router.lanes.hub.SEVER_SECONDS", 0.05)
    server, back, closed, connection = Server(), threading.Event(), threading.Event(), object()

    def hang() -> None:
        try:
            server.call(partial(_ended, back), connection=connection)
        finally:
            server.link.when_free(connection, closed.set)

    with pytest.raises(OperationalError):
        run_all([hang, fail])
    assert not closed.is_set()
    back.set()
    assert closed.wait(PATIENCE)


def test_somebody_is_still_connecting() -> None:
    """Nobody waits for the connection; it is given back as soon as it is there."""
    server, come, given_back = Server(), threading.Event(), threading.Event()

    def connect() -> Any:
        return server.call(partial(_ended, come), undo=lambda _: given_back.set())

    with pytest.raises(OperationalError):
        run_all([connect, fail])
    assert not given_back.is_set()
    come.set()
    assert given_back.wait(PATIENCE)


def test_errors_of_the_library_get_a_note() -> None:
    """What they say already is left as it is."""

    def refuse() -> None:
        raise CrossShardError("R301", "no")

    with pytest.raises(CrossShardError) as caught:
        run_all([refuse, lambda: None], DESTINATIONS[:2])
    assert caught.value.__notes__ == ["on shard shop/s0, database d0"]


def test_the_innermost_shard_is_named() -> None:
    """An error that passes through two runs says once where it is from."""

    def inner() -> None:
        run_all([fail, lambda: None], DESTINATIONS[1:])

    with pytest.raises(OperationalError) as caught:
        run_all([inner, lambda: None], DESTINATIONS[:2])
    assert caught.value.detail == ["on shard shop/s1, database d1"]


def test_out_of_time() -> None:
    """Those that have not ended are named; an inner run inherits the time of the outer one."""
    server = Server()
    with pytest.raises(OutOfTimeError) as caught:
        Hub([lambda: None, server.hang, server.hang], seconds=0.05).run()
    assert caught.value.lanes == [1, 2]
    server = Server()
    with pytest.raises(OutOfTimeError) as caught:
        Hub([lambda: Hub([server.hang, server.hang]).run()], seconds=0.05).run()
    assert caught.value.lanes == [0, 1]


def test_finishing_all() -> None:
    """Every call is made; the first error is raised at the end."""
    server, meeting, done = Server(), threading.Barrier(2), []

    def end(number: int) -> None:
        server.call(lambda: meeting.wait(PATIENCE))
        done.append(number)

    with pytest.raises(OperationalError):
        finish_all([fail, partial(end, 1), partial(end, 2)])
    assert sorted(done) == [1, 2]
    assert not server.cancelled.is_set()


# -- workers and pace ---------------------------------------------------------------------------


def test_a_busy_pool_makes_nobody_wait() -> None:
    """Calls for which there is no thread are made by the caller, who may hold the locks."""
    workers = Workers(limit=1)
    server, busy, release = Server(workers=workers), threading.Event(), threading.Event()
    job = Job(lambda: (busy.set(), _ended(release)), lambda _: None)
    assert workers.start(job)
    busy.wait(PATIENCE)
    here = threading.get_ident()
    assert run_all([lambda: server.call(threading.get_ident)] * 2) == [here, here]
    assert not workers.start(Job(fail, lambda _: None))
    ended = threading.Event()
    assert workers.start(Job(fail, lambda _: ended.set()), beyond=True)
    assert ended.wait(PATIENCE)
    release.set()


def test_threads_are_used_again_and_end() -> None:
    """One thread serves calls that follow each other; it ends when the pool rests."""
    workers = Workers()
    threads = set()
    for _ in range(20):
        done = threading.Event()
        workers.start(
            Job(lambda: threads.add(threading.current_thread()), lambda _, done=done: done.set())  # type: ignore[misc]
        )
        assert done.wait(PATIENCE)
    assert len(threads) <= 2
    assert all(thread.daemon for thread in threads)
    while any(thread.is_alive() for thread in threads):
        workers.rest()
        for thread in threads:
            thread.join(0.01)
    assert workers.count == 0


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """By themselves, after a while."""
    monkeypatch.setattr("router.lanes.workers.IDLE_SECONDS", 0.01)
    workers = Workers()
    threads: list[threading.Thread] = []
    workers.start(Job(lambda: threads.append(threading.current_thread()), lambda _: None))
    while not threads:
        threading.Event().wait(0.001)
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()
    assert workers.count == 0


def test_pace() -> None:
    """The unknown and the slow are handed over; the estimate follows what is measured."""
    pace = Measured(worth=1.0)
    assert pace.waits("a")
    pace.note("a", 0.1)
    assert not pace.waits("a")
    assert pace.waits("b")
    pace.note("a", 3.0)
    assert pace.waits("a")
    for _ in range(3):
        pace.note("a", 0.1)
    assert not pace.waits("a")
    for number in range(3000):
        pace.note(str(number), 0.1)
    assert pace.waits("a")


def test_quick_calls_are_made_at_once() -> None:
    """No thread is made for them, and they are measured."""
    workers = Workers()
    server = Server(pace=Measured(worth=PATIENCE), workers=workers)
    server.link.pace.note("call", 0.0)
    here = threading.get_ident()
    assert run_all([lambda: server.call(threading.get_ident)] * 3) == [here] * 3
    assert workers.count == 0
