"""How far a server is: positions that can be compared, joined and written as text.

PostgreSQL counts bytes of its log; MariaDB names, for each replication domain, the last
transaction; MySQL names every transaction of each server.  A position never says less than
what it was taken for: one that is later than needed only lets a reader wait longer.

The texts have characters of ``A-Za-z0-9._-`` only, so that they fit into cookies and headers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_DIGITS = 20
_WORD = r"[0-9a-f]{1,16}"
_NUMBER = rf"[0-9]{{1,{_DIGITS}}}"
_GTID = re.compile(rf"({_NUMBER})-({_NUMBER})-({_NUMBER})")
_SOURCE = re.compile(r"([0-9a-f]{32})(?:\.([a-z_][a-z0-9_]{0,31}))?((?:\.[0-9]+(?:-[0-9]+)?)+)")
_PAGE, _HEADER = 8192, 24


@dataclass(frozen=True, slots=True)
class Lsn:
    """A position in the log of PostgreSQL, in bytes."""

    value: int

    def covers(self, other: Position) -> bool:
        """Return whether a server that is here has what one at `other` has."""
        return isinstance(other, Lsn) and self.value >= other.value

    def joined(self, other: Position) -> Position:
        """Return a position that covers both."""
        return max(self, other, key=lambda one: one.value) if isinstance(other, Lsn) else UNKNOWN

    def __str__(self) -> str:
        return f"w{self.value:x}"


@dataclass(frozen=True, slots=True)
class Gtids:
    """The last transaction of each replication domain of MariaDB: domain, server, number."""

    last: tuple[tuple[int, int, int], ...]

    def covers(self, other: Position) -> bool:
        """Return whether a server that is here has what one at `other` has."""
        if not isinstance(other, Gtids):
            return False
        mine = {domain: number for domain, _, number in self.last}
        return all(mine.get(domain, -1) >= number for domain, _, number in other.last)

    def joined(self, other: Position) -> Position:
        """Return a position that covers both."""
        if not isinstance(other, Gtids):
            return UNKNOWN
        last: dict[int, tuple[int, int, int]] = {}
        for one in (*self.last, *other.last):
            known = last.get(one[0])
            last[one[0]] = one if known is None or one[2] > known[2] else known
        return Gtids(tuple(sorted(last.values())))

    def __str__(self) -> str:
        return "m" + "_".join("-".join(map(str, one)) for one in self.last)


Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class GtidSet:
    """Every transaction of MySQL that a server has: by source, spans of numbers."""

    spans: tuple[tuple[str, Spans], ...]

    def covers(self, other: Position) -> bool:
        """Return whether a server that is here has what one at `other` has."""
        if not isinstance(other, GtidSet):
            return False
        mine = dict(self.spans)
        return all(_contains(mine.get(source, ()), spans) for source, spans in other.spans)

    def joined(self, other: Position) -> Position:
        """Return a position that covers both."""
        return gtid_set([*self.spans, *other.spans]) if isinstance(other, GtidSet) else UNKNOWN

    def __str__(self) -> str:
        parts = []
        for source, spans in self.spans:
            shown = (str(low) if low == high else f"{low}-{high}" for low, high in spans)
            parts.append(".".join((source, *shown)))
        return "g" + "_".join(parts)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A position that nobody can tell: no replica is known to have reached it."""

    def covers(self, other: Position) -> bool:
        """Return False: nothing is known of it."""
        del other
        return False

    def joined(self, other: Position) -> Position:
        """Return itself."""
        del other
        return self

    def __str__(self) -> str:
        return "x"


Position = Lsn | Gtids | GtidSet | Unknown
UNKNOWN = Unknown()


def gtid_set(parts: Iterable[tuple[str, Spans]]) -> GtidSet:
    """Return the set of all the `parts`, in its shortest form."""
    found: dict[str, list[tuple[int, int]]] = {}
    for source, spans in parts:
        found.setdefault(source, []).extend(spans)
    return GtidSet(tuple((source, _merged(found[source])) for source in sorted(found)))


def _merged(spans: list[tuple[int, int]]) -> Spans:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _contains(mine: Spans, wanted: Spans) -> bool:
    return all(any(a <= low and high <= b for a, b in mine) for low, high in wanted)


# -- texts -------------------------------------------------------------------------------------


def parsed(text: str) -> Position:
    """Return the position that `text`, made by ``str()`` of one, says.

    Raises
    ------
    ValueError
        It says none.
    """
    make = _KINDS.get(text[:1])
    if make is None:
        raise ValueError("no position")
    return make(text[1:])


def _lsn(text: str) -> Position:
    if re.fullmatch(_WORD, text) is None:
        raise ValueError("no position of PostgreSQL")
    return Lsn(int(text, 16))


def _gtids(text: str) -> Position:
    found = [_GTID.fullmatch(part) for part in text.split("_")]
    last = {int(one[1]): (int(one[1]), int(one[2]), int(one[3])) for one in found if one}
    if len(last) != len(found):
        raise ValueError("no position of MariaDB")
    return Gtids(tuple(sorted(last.values())))


def _gtid_set(text: str) -> Position:
    parts = []
    for part in text.split("_"):
        found = _SOURCE.fullmatch(part)
        if found is None:
            raise ValueError("no position of MySQL")
        source = found[1] if found[2] is None else f"{found[1]}.{found[2]}"
        parts.append((source, tuple(_span(one) for one in found[3][1:].split("."))))
    return gtid_set(parts)


def _span(text: str) -> tuple[int, int]:
    if len(text) > 2 * _DIGITS + 1:
        raise ValueError("no number of a transaction")
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _unknown(text: str) -> Position:
    if text:
        raise ValueError("no position")
    return UNKNOWN


_KINDS: Mapping[str, Callable[[str], Position]] = {
    "w": _lsn,
    "m": _gtids,
    "g": _gtid_set,
    "x": _unknown,
}


# -- what servers say --------------------------------------------------------------------------


def of_postgresql(text: object) -> Position | None:
    """Return the position that PostgreSQL writes as ``16/B374D848``."""
    if text is None:
        return None
    high, _, low = str(text).partition("/")
    value = (int(high, 16) << 32) + int(low, 16)
    # Where the last record ended with its page, the next one will begin behind the header of
    # the following page.  No record ends there, so that nobody would ever be said to be there.
    return Lsn(value - _HEADER if value % _PAGE == _HEADER else value)


def of_mariadb(text: object) -> Position | None:
    """Return the position that MariaDB writes as ``0-1-270,1-2-5``; None if it has none."""
    return parsed("m" + str(text).replace(",", "_")) if text else None


def of_mysql(text: object) -> Position | None:
    """Return the position that MySQL writes as ``3e11fa47-...:1-5:7,...``; None if it has none."""
    if not text:
        return None
    sources = "".join(str(text).lower().split()).split(",")
    parts = [source.partition(":") for source in sources]
    written = (f"{uuid.replace('-', '')}.{rest.replace(':', '.')}" for uuid, _, rest in parts)
    return parsed("g" + "_".join(written))
