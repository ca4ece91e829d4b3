"""SQL written as text inside a statement: what of it can be let through unread.

A fragment is harmless if it names no table and if it cannot change how the rest of the
statement is read.  SQLAlchemy puts no parentheses around it, so that ``x = 1 OR y = 2``
beside other conditions means something else than it seems to.
"""

from __future__ import annotations

import re

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`""")
_NAMES_TABLES = re.compile(r"\b(select|from|table|with|call|join|into|values|using)\b", re.I)
_ENDS_EARLY = re.compile(r"--|/\*|#|;|\\|\$|['\"`]")
_LOOSE = re.compile(r"\b(or|xor|between|case|end)\b|\|\|", re.I)
_INNERMOST = re.compile(r"\([^()]*\)")
_ONE_VALUE = re.compile(r"\*|\d+")

LOOSE = "needs parentheses around it"


def hazard(text: str) -> str | None:
    """Return what makes `text` unsafe to let through, or None."""
    bare = _QUOTED.sub("''", text)
    if _NAMES_TABLES.search(bare):
        return "may name tables"
    if _ENDS_EARLY.search(bare.replace("''", "")):
        return "may hide what follows it"
    while _INNERMOST.search(bare):
        bare = _INNERMOST.sub(" ", bare)
    if "(" in bare or ")" in bare or _LOOSE.search(bare):
        return LOOSE
    return None


def is_plain_value(text: str) -> bool:
    """Return whether `text` is ``*`` or a number, as in ``EXISTS (SELECT 1 ...)``."""
    return _ONE_VALUE.fullmatch(text) is not None
