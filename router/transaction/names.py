"""What transactions and their branches are called; names carry all that recovery needs.

::

    gtid   13 hexadecimal digits of Unix time in milliseconds, 19 random ones
    gid    rt1.<gtid>.<decider>.<participant>                         PostgreSQL
    xid    'rt1.<gtid>','<decider>.<participant>.<connection id>',1   MySQL, MariaDB

Decider and participant are the identities of databases: 12 random hexadecimal digits that each
of them keeps in its own log.  Names of a map would do only as long as no other map used the
same ones: its recovery would ask a wrong database, and split the transaction.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass

PREFIX = "rt1"

_HEX = "[0-9a-f]"
_GTID = re.compile(f"{_HEX}{{32}}")
_GID = re.compile(rf"{PREFIX}\.({_HEX}{{32}})\.({_HEX}{{12}})\.({_HEX}{{12}})")
_QUALIFIER = re.compile(rf"({_HEX}{{12}})\.({_HEX}{{12}})\.(\d+)")


@dataclass(frozen=True, slots=True)
class Branch:
    """One database's part of a transaction over several."""

    gtid: str
    decider: str
    participant: str

    @property
    def gid(self) -> str:
        """The name under which PostgreSQL prepares it."""
        return f"{PREFIX}.{self.gtid}.{self.decider}.{self.participant}"

    def xid(self, connection: int) -> str:
        """Return the name for XA, as SQL; `connection` is the id of the preparing one."""
        qualifier = f"{self.decider}.{self.participant}.{connection}"
        return f"'{PREFIX}.{self.gtid}','{qualifier}',1"


def new_gtid() -> str:
    """Return the name of a new transaction."""
    return f"{int(time.time() * 1000):013x}{secrets.token_hex(10)[:19]}"


def new_identity() -> str:
    """Return what a database may be called among all databases."""
    return secrets.token_hex(6)


def is_gtid(name: str) -> bool:
    """Return whether `name` can be a transaction's."""
    return _GTID.fullmatch(name) is not None


def began(gtid: str) -> float:
    """Return when a transaction was named, in seconds of Unix time by the clock of its process."""
    return int(gtid[:13], 16) / 1000


def age_of(gtid: str) -> float:
    """Return the seconds since a transaction was named, by the clocks of two processes."""
    return time.time() - began(gtid)


def parse_gid(gid: str) -> Branch | None:
    """Return the branch that PostgreSQL calls `gid`; None if it is not one of ours."""
    found = _GID.fullmatch(gid)
    return Branch(*found.groups()) if found is not None else None


def parse_xid(transaction: str, qualifier: str) -> tuple[Branch, int] | None:
    """Return branch and connection id of an XA name's two parts; None if it is not ours."""
    gtid = transaction.removeprefix(f"{PREFIX}.")
    found = _QUALIFIER.fullmatch(qualifier)
    if found is None or gtid == transaction or not is_gtid(gtid):
        return None
    decider, participant, connection = found.groups()
    return Branch(gtid, decider, participant), int(connection)
