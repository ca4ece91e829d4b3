"""``modulo``: an integer key modulo the number of shards, in the order listed.

The remainder has the sign of the divisor, as in Python: of three shards, -1 belongs to
the third.  SQL's ``MOD`` gives -1 there; take its absolute value into account when
comparing.  Adding a shard moves most keys; use ``hash`` when that could happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.shardmap.functions.building import Site, single_column
from router.shardmap.functions.protocol import Key
from router.shardmap.keytypes import KeyKind, KeyType, KeyValueError
from router.shardmap.strict import Strict, parse_options


class ModuloOptions(Strict):
    """Options of `modulo`: none."""


@dataclass(frozen=True, slots=True)
class ModuloFunction:
    """Maps an integer to ``shards[key % len(shards)]``."""

    shards: tuple[str, ...]

    def shard_of(self, key: Key) -> str:
        """Return the shard at the key's remainder.

        Raises
        ------
        KeyValueError
            If the key is not one integer.
        """
        if len(key) != 1 or not isinstance(key[0], int):
            raise KeyValueError("`modulo` takes keys of one integer")
        return self.shards[key[0] % len(self.shards)]

    def why_not(self, types: tuple[KeyType, ...]) -> str:
        """Refuse everything but integers and decimals without places."""
        kinds = [KeyKind.INTEGER if t.places == 0 else t.kind for t in types]
        return "" if kinds == [KeyKind.INTEGER] else "`modulo` takes keys of one integer"

    def describe(self) -> str:
        """Return the shards in order of their remainders."""
        return f"key modulo {len(self.shards)} ({', '.join(self.shards)})"


def build(options: Mapping[str, Any], site: Site) -> ModuloFunction:
    """Build the function over the shards of `site`, in their order."""
    parse_options(ModuloOptions, options)
    single_column("modulo", site)
    return ModuloFunction(site.shards)
