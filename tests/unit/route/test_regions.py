"""What is known of the parts of a statement."""

from __future__ import annotations

from router.route.regions import Part, Region


def test_sides_that_take_part_in_each_other() -> None:
    """Two sides of outer joins whose rows each need those of the other are found once."""
    root = Region()
    left, right = Region(root, Part.NULLABLE), Region(root, Part.NULLABLE)
    tested = Region(root, Part.TESTED)
    left.included += [right, tested]
    right.included.append(left)
    assert left.certain() == [left, right, tested]
    assert right.certain() == [right, left, tested]
    assert left.joined() == [left, right]
    assert left.known() == [left, right, tested, root]
