"""The groups of all shards, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from router.rewrite.arithmetic import add, in_range
from router.rewrite.comparing import comparable
from router.rewrite.groups import Cell, Combine, Compared, Groups

Row = tuple[Any, ...]
Absorb = Callable[[list[Any], Row], None]


def grouped(rows: Iterable[Row], groups: Groups) -> Iterator[Row]:
    """Yield one row for every group that `having` lets through.

    All groups are in memory at once.
    """
    for row in _merged(rows, groups):
        for cell in groups.cells:
            if cell.combine is Combine.ADD:
                in_range(row[cell.position], cell.bits)
        for computed in groups.computed:
            value = computed.formula.evaluate(row)
            if computed.position < len(row):
                row[computed.position] = value
            else:
                row.append(value)
        if groups.having is None or groups.having.evaluate(row) is True:
            yield tuple(row)


def each_once(rows: Iterable[Row], compared: Sequence[Compared]) -> Iterator[Row]:
    """Yield the first of all rows that are equal for the database."""
    identify = identity(compared)
    seen = set()
    for row in rows:
        key = identify(row)
        if key not in seen:
            seen.add(key)
            yield row


def _merged(rows: Iterable[Row], groups: Groups) -> Iterable[list[Any]]:
    found: dict[Any, list[Any]] = {}
    identify = identity(groups.keys)
    absorb = _absorbers(groups.cells)
    # A group's other columns are the same everywhere, or NULL where a shard has none of it.
    computed = [one.position for one in groups.computed]
    for row in rows:
        key = identify(row)
        group = found.setdefault(key, [])
        if not group:
            group.extend(row)
            continue
        for one in absorb:
            one(group, row)
        for position in computed:
            if position < len(row) and group[position] is None:
                group[position] = row[position]
    return found.values()


def identity(compared: Sequence[Compared]) -> Callable[[Row], Any]:
    """Return the function from a row to what is equal for rows that the database calls equal."""
    parts = [(one.position, comparable(one.kind, mixed=one.mixed)) for one in compared]

    def identify(row: Row) -> Any:
        return tuple(
            None if row[position] is None else key(row[position]) for position, key in parts
        )

    return identify


def _absorbers(cells: Iterable[Cell]) -> list[Absorb]:
    """Return what adds the aggregates of one more shard to those of a group."""
    extremes: dict[Compared, dict[Combine, list[int]]] = {}
    found = []
    for cell in cells:
        if cell.by is None:
            found.append(_adder(cell.position, _COMBINE[cell.combine]))
        else:
            extremes.setdefault(cell.by, {}).setdefault(cell.combine, []).append(cell.position)
    for by, ways in extremes.items():
        for combine, positions in ways.items():
            found.append(_chooser(by, combine is Combine.GREATEST, positions))
    return found


def _adder(position: int, combine: Callable[[Any, Any], Any]) -> Absorb:
    def absorb(group: list[Any], row: Row) -> None:
        value = row[position]
        if value is not None:
            group[position] = value if group[position] is None else combine(group[position], value)

    return absorb


def _chooser(by: Compared, greatest: bool, positions: list[int]) -> Absorb:
    """Return what takes over all `positions` of a row whose value decides."""
    key = comparable(by.kind, mixed=by.mixed)
    moved = {*positions, by.position}

    def absorb(group: list[Any], row: Row) -> None:
        new, old = row[by.position], group[by.position]
        if new is None:
            return
        if old is None or (key(old) < key(new) if greatest else key(new) < key(old)):
            for position in moved:
                group[position] = row[position]

    return absorb


_COMBINE: dict[Combine, Callable[[Any, Any], Any]] = {
    Combine.ADD: add,
    Combine.EVERY: lambda left, right: left and right,
    Combine.SOME: lambda left, right: left or right,
}
