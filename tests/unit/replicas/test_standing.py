"""Which replicas of a database may be read."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from router.replicas.positions import Lsn, Position
from router.replicas.standing import Standing
from router.shardmap.model import Database, Replica, Replication

URL = make_url("postgresql+psycopg://app:s3cret@h:5/x")


class Scene:
    """A standing whose time and servers do what they are told."""

    def __init__(self, *weights: int, max_lag: float | None = 10) -> None:
        replicas = tuple(Replica(URL.set(port=at), weight) for at, weight in enumerate(weights))
        self.now = 100.0
        self.standing = Standing(
            Database("d", URL, replicas), Replication(max_lag=max_lag), lambda: self.now
        )
        self.written = 0
        self.replayed = [0 for _ in weights]
        self.gone: set[int | None] = set()

    def look(self) -> None:
        """Let the servers be asked."""
        self.standing.look(
            lambda: self._answer(None, self.written),
            lambda member: self._answer(member.number, self.replayed[member.number]),
        )

    def _answer(self, number: int | None, value: int) -> Position:
        if number in self.gone:
            raise OperationalError("SELECT", {}, ConnectionError("s3cret"))
        return Lsn(value)

    def usable(self) -> set[int]:
        """Return the replicas that may be read."""
        return {one.number for one in self.standing.candidates()}


def test_unknown_is_too_far() -> None:
    """Before anything is known, no replica is read, unless any distance will do."""
    assert Scene(1, 1).usable() == set()
    assert Scene(1, 1, max_lag=None).usable() == {0, 1}


def test_a_busy_primary() -> None:
    """A replica that is never quite there is known to be as near as it was at the last look."""
    scene = Scene(1)
    for step in range(30):
        scene.written += 5
        scene.replayed[0] = scene.written - 2
        scene.look()
        assert scene.usable() == (set() if step == 0 else {0})
        scene.now += 1
    assert scene.standing.lag(scene.standing.members[0]) == 2


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.1, 4)), max_size=40))
def test_the_lag_is_never_understated(steps: list[tuple[bool, bool, float]]) -> None:
    """Whatever is committed and replayed when, a replica has all that is older than its lag."""
    scene = Scene(1)
    commits: list[tuple[float, int]] = [(scene.now, 0)]
    for writes, replays, seconds in steps:
        if writes:
            scene.written += 1
            commits.append((scene.now, scene.written))
        if replays:
            scene.replayed[0] = scene.written
        scene.now += 0.01
        scene.look()
        scene.now += seconds
        lag = scene.standing.lag(scene.standing.members[0])
        if lag is not None:
            before = scene.now - lag
            assert all(one <= scene.replayed[0] for when, one in commits if when < before)


def test_outages(caplog: pytest.LogCaptureFixture) -> None:
    """A replica that fails is left alone for a while, and must be looked at before it is read."""
    scene = Scene(1, 1)
    scene.look()
    scene.gone = {0}
    scene.now += 1
    scene.look()
    assert scene.usable() == {1}
    scene.gone = set()
    scene.now += 1
    scene.look()
    assert scene.usable() == {1}
    scene.now += 5
    assert scene.usable() == {1}
    scene.look()
    assert scene.usable() == {0, 1}
    assert len(caplog.records) == 1
    assert "s3cret" not in caplog.text


def test_a_primary_that_does_not_answer() -> None:
    """What it said last counts until that is too old; it is not asked at every look."""
    scene = Scene(1)
    scene.look()
    scene.gone = {None}
    scene.now += 9
    scene.look()
    assert scene.usable() == {0}
    scene.now += 2
    scene.look()
    assert scene.usable() == set()
    scene.gone = set()
    scene.now += 5
    scene.look()
    assert scene.usable() == {0}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_shares_follow_weights(weights: list[int]) -> None:
    """The first candidate is chosen by weight; the others follow, each once."""
    scene = Scene(*weights, max_lag=None)
    scene.standing.random.seed(7)
    first: Counter[int] = Counter()
    for _ in range(600):
        order = [one.number for one in scene.standing.candidates()]
        assert sorted(order) == list(range(len(weights)))
        first[order[0]] += 1
    for number, weight in enumerate(weights):
        assert abs(first[number] / 600 - weight / sum(weights)) < 0.12


def test_one_thread_looks() -> None:
    """Others go on with what is known."""
    scene = Scene(1)
    asked = []

    def again() -> Position:
        asked.append(1)
        scene.look()
        return Lsn(0)

    scene.standing.look(again, lambda member: Lsn(0))
    assert asked == [1]
    assert scene.usable() == {0}
