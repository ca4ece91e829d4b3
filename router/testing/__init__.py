"""What tests of applications want from this library; nothing here is needed in production.

`Oracle` compares the shards with one database; `record`, `assert_single_shard` and
`forbid_scatter` tell which databases a block touches; `router.testing.servers` starts real
servers.  All are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router.testing.oracle import Comparison, Oracle, Outcome
    from router.testing.recorder import Touch, Touched, assert_single_shard, forbid_scatter, record

__all__ = [
    "Comparison",
    "Oracle",
    "Outcome",
    "Touch",
    "Touched",
    "assert_single_shard",
    "forbid_scatter",
    "record",
]

_ORACLE = {"Comparison", "Oracle", "Outcome"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'oracle' if name in _ORACLE else 'recorder'}"), name)
