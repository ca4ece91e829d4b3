"""What a builder of sharding functions is given, and how it reports what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from router.shardmap.findings import At, Path
from router.shardmap.functions.protocol import ShardingFunction
from router.shardmap.keytypes import KeyType


@dataclass(frozen=True, slots=True)
class Site:
    """The keyspace that a function is to serve.

    `shards` are in the order of the map; `columns` is the number of shard key columns;
    `databases` are the names of all databases of the map.
    """

    keyspace: str
    shards: tuple[str, ...]
    columns: int = 1
    databases: tuple[str, ...] = ()


Builder = Callable[[Mapping[str, Any], Site], ShardingFunction]
"""Makes a function from its options: all keys beside `function:` and `null_shard:`.

A builder that does not like its options raises `OptionsError`, or a `ValueError` whose
message is one sentence.
"""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing wrong with the options: the id, the place within them, a sentence."""

    id: str
    path: Path
    what: str
    at: At = At.VALUE


class OptionsError(ValueError):
    """Options that make no function; `complaints` holds everything that is wrong."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("; ".join(complaint.what for complaint in self.complaints))


@runtime_checkable
class TypedFunction(Protocol):
    """A function that cannot take keys of every type."""

    def why_not(self, types: tuple[KeyType, ...]) -> str:
        """Return why keys of these column types have no shard; empty if they have."""
        ...


@runtime_checkable
class DescribedFunction(Protocol):
    """A function that can say what it does."""

    def describe(self) -> str:
        """Return one line for people: the function, its parameters, who gets what."""
        ...


def single_column(name: str, site: Site) -> None:
    """Refuse keyspaces with composite keys.

    Raises
    ------
    OptionsError
        If the shard key of the keyspace has several columns.
    """
    if site.columns > 1:
        what = f"`{name}` takes keys of one column, and these have {site.columns}"
        raise OptionsError([Complaint("R119", ("function",), what)])
