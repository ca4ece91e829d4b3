"""``list``: every key is listed with its shard; the others go to the default, if any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import Field

from router.shardmap.findings import At, Path, suggestion
from router.shardmap.functions.building import Complaint, OptionsError, Site, single_column
from router.shardmap.functions.protocol import Key, KeyValue, NoShardError
from router.shardmap.keys import KeyValueError, family_of, normalise
from router.shardmap.keytypes import KeyType
from router.shardmap.strict import Name, Scalar, Strict, parse_options


class ListOptions(Strict):
    """Options of `list`."""

    values: dict[Name, list[Scalar]] = Field(min_length=1, description="shard: its keys")
    default: Name | None = Field(
        default=None, description="the shard of all keys that are not listed"
    )


@dataclass(frozen=True, slots=True)
class ListFunction:
    """Maps a key to ``values[key]``, or else to `default`."""

    values: Mapping[KeyValue, str]
    default: str | None = None

    def shard_of(self, key: Key) -> str:
        """Return the shard with which the key is listed, or the default.

        Raises
        ------
        NoShardError
            If the key is not listed and there is no default.
        """
        shard = self.values.get(key[0], self.default)
        if shard is None:
            raise NoShardError(f"{key[0]!r} is not listed, and there is no default")
        return shard

    def why_not(self, types: tuple[KeyType, ...]) -> str:
        """Refuse columns whose values could never equal a listed one."""
        listed = {family_of(value) for value in self.values}
        if not listed or listed == {t.family for t in types}:
            return ""
        return f"the listed keys are {', '.join(sorted(listed))}"

    def __hash__(self) -> int:
        """Hash by the pairs: mapping proxies have no hash of their own."""
        return hash((frozenset(self.values.items()), self.default))

    def describe(self) -> str:
        """Return how many keys each shard has, and the default."""
        shards = list(self.values.values())
        counts = ", ".join(f"{shard}: {shards.count(shard)}" for shard in dict.fromkeys(shards))
        rest = f"; all others: {self.default}" if self.default else ""
        return f"list of keys ({counts}{rest})"


def build(options: Mapping[str, Any], site: Site) -> ListFunction:
    """Build the function from the lists.

    Raises
    ------
    OptionsError
        If a key is listed twice, is no key, or a shard does not exist.
    """
    parsed = parse_options(ListOptions, options)
    single_column("list", site)
    complaints: list[Complaint] = []
    values: dict[KeyValue, str] = {}
    for shard, listed in parsed.values.items():
        complaints += _no_shard(shard, ("values", shard), site, At.KEY)
        for index, raw in enumerate(listed):
            complaints += _add(values, raw, shard, ("values", shard, index))
    if parsed.default is not None:
        complaints += _no_shard(parsed.default, ("default",), site)
    if len(families := {family_of(value) for value in values}) > 1:
        what = f"the listed keys are of different types: {', '.join(sorted(families))}"
        complaints.append(Complaint("R118", ("values",), what))
    if complaints:
        raise OptionsError(complaints)
    return ListFunction(MappingProxyType(values), parsed.default)


def _no_shard(shard: str, path: Path, site: Site, at: At = At.VALUE) -> list[Complaint]:
    if shard in site.shards:
        return []
    what = f"the keyspace has no shard `{shard}`" + suggestion(shard, site.shards)
    return [Complaint("R112", path, what, at)]


def _add(values: dict[KeyValue, str], raw: object, shard: str, path: Path) -> list[Complaint]:
    try:
        value = normalise(raw)
    except KeyValueError as error:
        return [Complaint("R118", path, str(error))]
    if value in values:
        what = f"{value!r} is listed twice: `{values[value]}` already has it"
        return [Complaint("R118", path, what)]
    values[value] = shard
    return []
