"""Who waits for whom, over all databases; no input, no output.

A database knows the edges between its own backends.  That two backends in different databases
serve the same transaction is known by the transaction's tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

Node = tuple[str, int]
"""A transaction over several databases, ``("", tag)``, or a backend: its database, its pid."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one database shows: pairs of a waiting pid and one it waits for; tags by pid."""

    waits: frozenset[tuple[int, int]] = frozenset()
    tags: Mapping[int, int] = field(default_factory=dict)


def find_cycle(seen: Mapping[str, Seen]) -> frozenset[Node]:
    """Return those who wait for each other, through several databases; empty if nobody does.

    The same is returned for the same waits.
    """
    waits: dict[Node, set[Node]] = {}
    for database, one in sorted(seen.items()):
        for pid, blocker in sorted(one.waits):
            waits.setdefault(_node(database, pid, one), set()).add(_node(database, blocker, one))
    try:
        TopologicalSorter({node: sorted(them) for node, them in waits.items()}).prepare()
    except CycleError as error:
        return frozenset(error.args[1])
    return frozenset()


def victim_of(cycle: frozenset[Node]) -> int | None:
    """Return the tag of the transaction that is given up, the same for all who look.

    None if all of it is in one database, which ends it by itself.
    """
    return max((number for database, number in cycle if not database), default=None)


def _node(database: str, pid: int, seen: Seen) -> Node:
    tag = seen.tags.get(pid)
    return (database, pid) if tag is None else ("", tag)
