"""The catalogue of error ids: a title and a general remedy for each.

R1xx the shard map, R2xx routing, R3xx what spans shards, R4xx transactions,
R5xx databases, R6xx the command line and the servers it starts, R7xx findings of check,
R8xx ids.
``docs/errors.md`` has a section for every id; a test keeps the two in step.
"""

from __future__ import annotations

from router.catalogue.entry import Entry
from router.catalogue.operations import OPERATIONS
from router.catalogue.statements import STATEMENTS

CATALOGUE: dict[str, Entry] = {**STATEMENTS, **OPERATIONS}
