"""What is known of an error by its id alone."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """What an id stands for, and how to get out of it in general."""

    title: str
    remedy: str
