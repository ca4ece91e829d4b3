"""Who waits for whom over several databases."""

from __future__ import annotations

from router.deadlocks.graph import Seen, find_cycle, victim_of

WAITS = frozenset({(1, 2)})
BACK = frozenset({(4, 3)})


def test_a_circle_through_two_databases() -> None:
    """Transactions are known by their tags, wherever their backends are."""
    seen = {"d0": Seen(WAITS, {1: 70, 2: 80}), "d1": Seen(BACK, {3: 70, 4: 80})}
    cycle = find_cycle(seen)
    assert cycle == {("", 70), ("", 80)}
    assert victim_of(cycle) == 80
    assert find_cycle(dict(reversed(seen.items()))) == cycle


def test_equal_numbers_in_two_databases_are_different_backends() -> None:
    """Without tags there is no circle."""
    there, back = Seen(frozenset({(1, 2)})), Seen(frozenset({(2, 1)}))
    assert find_cycle({"d0": there, "d1": back}) == frozenset()
    assert find_cycle({"d0": Seen(WAITS, {1: 70, 2: 80}), "d1": Seen(BACK, {3: 70})}) == frozenset()


def test_those_in_between_need_no_tag() -> None:
    """A backend of somebody who knows nothing of this can be part of it."""
    seen = {
        "d0": Seen(frozenset({(1, 9), (9, 2)}), {1: 70, 2: 80}),
        "d1": Seen(BACK, {3: 70, 4: 80}),
    }
    assert find_cycle(seen) == {("", 70), ("", 80), ("d0", 9)}


def test_a_circle_in_one_database_is_left_to_it() -> None:
    """It ends it within a second."""
    cycle = find_cycle({"d0": Seen(frozenset({(1, 2), (2, 1)}))})
    assert cycle == {("d0", 1), ("d0", 2)}
    assert victim_of(cycle) is None
    assert victim_of(frozenset()) is None
