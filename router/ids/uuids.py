"""UUIDs in the order of time.

Version 7 of RFC 9562 with a counter of fixed length (its method 1): 48 bits of milliseconds,
12 bits of a counter, 62 random bits.
"""

from __future__ import annotations

import secrets
from uuid import UUID

from router.ids.ticks import Ticks

_TICKS = Ticks(1 << 12)
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


def uuid7() -> UUID:
    """Return a UUID of version 7, greater than all that this process has made before.

    That is so even if the clock goes back.  Other processes, forked ones too, cannot make the
    same: their random bits differ.

    >>> mapped_column(Uuid, primary_key=True, default=ids.uuid7)
    """
    millisecond, counter = _TICKS.next()
    return UUID(
        int=(millisecond << 80) | _VERSION | (counter << 64) | _VARIANT | secrets.randbits(62)
    )
