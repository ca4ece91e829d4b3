"""Which queries have no effect, and the same answer on every copy of the data."""

from __future__ import annotations

from router.hooks.trace import Trace
from router.route.functions import BUILT_IN, SEEDED
from router.route.texts import is_plain_value

_OPERATORS = frozenset(
    "= <> != < > <= >= + - * / % ^ & | # ~ ~* !~ !~* << >> || @> <@ && -> ->> #> #>> ? ?| ?& @@ @? "
    "&< &> -|- <-> ^@ like ilike regexp rlike glob div mod xor <=>".split()
)
_KNOWN = BUILT_IN - SEEDED


def is_harmless(trace: Trace) -> bool:
    """Return whether a query that was read can be sent to a copy of its database.

    Not if it locks rows, which is for the caller to see; nor if it has a function or operator
    that is not known here, or text: each could do anything.
    """
    if trace.writes or trace.opaque or trace.functions - _KNOWN:
        return False
    operators = {one.strip().lower() for one in trace.custom}
    return operators <= _OPERATORS and all(map(is_plain_value, trace.texts))
