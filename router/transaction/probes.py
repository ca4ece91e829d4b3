"""Named places in the protocol at which tests stop, raise or kill; nothing in production."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from router.transaction.protocol import Act


class Moment(Enum):
    """Where a probe is."""

    BEFORE = "before"
    AFTER = "after"


Probe = Callable[[Moment, Act], None]

_probes: list[Probe] = []


def at(moment: Moment, act: Act) -> None:
    """Tell the probes where the protocol is."""
    for probe in _probes:
        probe(moment, act)


@contextmanager
def probing(probe: Probe) -> Iterator[None]:
    """Have `probe` called at every moment of every act while the context lasts."""
    _probes.append(probe)
    try:
        yield
    finally:
        _probes.remove(probe)
