"""What a forked child forgets: locks of threads that it does not have, and what is its parent's."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """Something that a fork copies and that the child must not go on with."""

    def forget(self) -> None:
        """Become as if new, in a forked child."""
        ...


_known: WeakSet[Forgetful] = WeakSet()


def forget_on_fork(one: Forgetful) -> None:
    """Call ``one.forget()`` in every forked child from now on."""
    _known.add(one)


def _forget() -> None:
    for one in list(_known):
        one.forget()


os.register_at_fork(after_in_child=_forget)
