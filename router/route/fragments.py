"""What in a statement SQLAlchemy passes on unread, and a guard therefore does not let through.

Text may name other columns than it seems to, and a function may read tables.  Those that are
known to look at nothing but their arguments are let through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.hooks.trace import Trace
from router.route.functions import BUILT_IN
from router.route.texts import hazard, is_plain_value

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`""")
_CALLS = re.compile(r"(\w+|'')\s*\(")
_DOTTED = re.compile(r"(\w|'')\s*\.\s*([^\W\d]|'')")
_BEFORE_PARENTHESES = frozenset("and in like not or then when else is".split())
_SYMBOL = re.compile(r"[^\w\s'\"`();#,.$\\]{1,5}|#>>?|#-|\w+( \w+)?", re.I)
_COMMENT = re.compile(r"--|/\*")
_WORDS = re.compile(
    r"\b(and|as|between|case|else|end|except|exists|from|in|intersect|into|join|not|or|select|table"
    r"|then|union|using|values|when|where|with|xor)\b",
    re.I,
)


def fragments_of(trace: Trace) -> Iterator[str]:
    """Yield what in a statement may be about rows that nobody sees in it, for messages."""
    for text in trace.texts:
        if not is_plain_value(text) and not _is_harmless(text):
            yield f"text {text[:60]!r}"
    for text in (*trace.custom, *trace.fields):
        if not _is_symbol(text):
            yield f"SQL {text[:60]!r}"
    for name in sorted(trace.functions - BUILT_IN):
        yield f"function {name}()"


def _is_harmless(text: str) -> bool:
    """Return whether text names neither tables nor functions that are not known.

    What has a dot may be a function, too: of a row, in PostgreSQL.
    """
    bare = _QUOTED.sub("''", text)
    if hazard(text) is not None or _DOTTED.search(bare) or "\\" in text:
        return False
    calls = {name.lower() for name in _CALLS.findall(bare)}
    return calls <= BUILT_IN | _BEFORE_PARENTHESES


def _is_symbol(text: str) -> bool:
    unsafe = _WORDS.search(text) or _COMMENT.search(text)
    return _SYMBOL.fullmatch(text) is not None and unsafe is None
