"""Tokens: what a session has to see, as a text that fits into a cookie or a header.

``1~shop_0~w16b3748~ledger~m0-1-270``: the version of the format, then a database and a position
for each database that was written to.  It holds no secret, and whoever makes one up only makes
reads wait, or go to the primary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from router.errors import RoutingError
from router.replicas.positions import UNKNOWN, Position, parsed

VERSION = "1"
MAX_LENGTH = 4000
"""Characters; browsers keep cookies of up to 4096, names and attributes included."""

_FORM = re.compile(r"[0-9A-Za-z._-]+(~[0-9A-Za-z._-]+)*")


def written(positions: Mapping[str, Position]) -> str | None:
    """Return the token that says `positions`, by database; None if there are none."""
    if not positions:
        return None
    token = _joined(positions)
    if len(token) > MAX_LENGTH:
        # That they are not known is short, and only keeps readers on the primary.
        token = _joined(dict.fromkeys(positions, UNKNOWN))
    return token


def _joined(positions: Mapping[str, Position]) -> str:
    parts = [part for name in sorted(positions) for part in (name, str(positions[name]))]
    return "~".join((VERSION, *parts))


def read(token: object) -> dict[str, Position]:
    """Return the positions that a token says, by database.

    Raises
    ------
    RoutingError
        It is none that `written` has made.
    """
    if not isinstance(token, str):
        raise _unreadable(f"it is a {type(token).__name__}, not text")
    if len(token) > MAX_LENGTH:
        raise _unreadable(f"it has more than {MAX_LENGTH} characters")
    if _FORM.fullmatch(token) is None:
        raise _unreadable("it has characters that tokens do not have")
    version, *parts = token.split("~")
    if version != VERSION:
        raise _unreadable(f"it is not of version {VERSION}")
    names, texts = parts[::2], parts[1::2]
    if not names or len(names) != len(texts) or len(set(names)) != len(names):
        raise _unreadable("it does not say one position for each database")
    try:
        return {name: parsed(text) for name, text in zip(names, texts, strict=True)}
    except ValueError as error:
        raise _unreadable("it says something that is no position") from error


def foreign(database: str) -> RoutingError:
    """Return the error for a position of another kind of server than the database is on."""
    return _unreadable(f"its position of {database} is that of another kind of database")


def _unreadable(why: str) -> RoutingError:
    # Nothing of it is repeated: it comes from outside.
    return RoutingError("R217", f"this is no token of a session: {why}")
