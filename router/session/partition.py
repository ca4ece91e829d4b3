"""What holds for a scope while a context lasts: partitions, and the role that is read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from router.errors import RoutingError
from router.replicas.roles import Role
from router.route.outside import outside, outside_partition

if TYPE_CHECKING:
    from router.session.guarding import Guard
    from router.shardmap.functions.protocol import Key
    from router.shardmap.model import ShardedKeyspace

T = TypeVar("T")

_ALLOW = 'say session.connection(execution_options={"unguarded": True}), or leave the partition'


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """One entered partition: its keyspace and shard, and the key that they were found by.

    `canonical` is the key as its sharding function takes it; `guard` lets no other key through.
    """

    keyspace: ShardedKeyspace
    shard: str
    key: tuple[object, ...] = field(repr=False)
    canonical: Key = field(default=(), repr=False)
    guard: Guard | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.keyspace.shard_id(self.shard)


class Pins:
    """The partitions a scope is in, and the roles that it has named.

    Each is removed by its own exit, in whatever order.
    """

    def __init__(self) -> None:
        self.entered: list[Pin] = []
        self._roles: list[tuple[Role]] = []

    def __bool__(self) -> bool:
        return bool(self.entered)

    def __iter__(self) -> Iterator[Pin]:
        return iter(self.entered)

    def add(self, pin: Pin) -> None:
        """Enter `pin`; raise `RoutingError` where it is not the shard already pinned to.

        Nor may it be another key than that of a guard.
        """
        for other in self.entered:
            if other.guard is not None and not other.guard.only.is_of(pin.keyspace, pin.canonical):
                raise outside(f"a partition on another key of {pin.keyspace.name} would leave it")
            if str(other) != str(pin):
                what = f"the session is pinned to {other}; a partition on {pin} would leave it"
                raise RoutingError("R208", what)
        self.entered.append(pin)

    def remove(self, pin: Pin) -> None:
        """Leave `pin`; others stay."""
        self.entered = [other for other in self.entered if other is not pin]

    @property
    def guard(self) -> Guard | None:
        """What guards the innermost partition that is guarded, if one is."""
        return next((pin.guard for pin in reversed(self.entered) if pin.guard is not None), None)

    def shards(self) -> dict[str, str]:
        """Return keyspace name -> the only shard to be used."""
        return {pin.keyspace.name: pin.shard for pin in self.entered}

    def databases(self) -> list[str]:
        """Return the only databases to be used; none if there is no partition."""
        return [pin.keyspace.shards[pin.shard] for pin in self.entered]

    # -- roles ---------------------------------------------------------------------------------

    @property
    def role(self) -> Role | None:
        """The role of the servers that the scope reads from, None if it has not said."""
        return self._roles[-1][0] if self._roles else None

    def read_from(self, role: Role) -> Callable[[], None]:
        """Read from servers of `role`, until what is returned is called; others stay."""
        entry = (role,)
        self._roles.append(entry)
        return partial(self._forget, entry)

    def _forget(self, entry: tuple[Role]) -> None:
        self._roles = [other for other in self._roles if other is not entry]

    @property
    def is_empty(self) -> bool:
        """Whether the scope is in no partition and has named no role."""
        return not self.entered and not self._roles

    # -- what would leave them -----------------------------------------------------------------

    def refuse_connection(self, *, allowed: bool) -> None:
        """Raise if a partition is guarded: what a connection is told to do is not seen."""
        if self.guard is not None and not allowed:
            raise outside("a connection is not", _ALLOW)

    def refuse_engine(self) -> None:
        """Raise if a partition is guarded: an engine's connections are not the session's."""
        if self.guard is not None:
            raise outside("an engine is not", "ask for it outside of the partition")

    def refuse(self, what: str) -> None:
        """Raise if there is a partition: `what` is not part of any."""
        if self.entered:
            raise outside_partition(f"{what} is not part of it", self.shards())

    def check(self, keyspace: ShardedKeyspace, shard: str) -> None:
        """Raise if there is a partition on another shard than this one."""
        if self.entered and self.shards().get(keyspace.name) != shard:
            what = f"this would reach {keyspace.shard_id(shard)}"
            raise outside_partition(what, self.shards())

    def check_database(self, database: str) -> None:
        """Raise if there is a partition on a shard in another database."""
        if self.entered and database not in self.databases():
            raise outside_partition(f"this would reach database {database}", self.shards())


class Within(Generic[T]):
    """Context manager under which something holds for a scope.

    Parameters
    ----------
    find:
        Finds the partitions and roles of the scope.
    value:
        What holds.
    left:
        Called at the end.
    """

    def __init__(
        self, find: Callable[[], Pins], value: T, left: Callable[[], None] | None = None
    ) -> None:
        self._find = find
        self._left = left
        self.value = value
        self._ends: list[Callable[[], None]] = []

    def _begin(self, pins: Pins) -> Callable[[], None]:
        """Let the value hold; return what ends that."""
        raise NotImplementedError

    def __enter__(self) -> T:
        self._ends.append(self._begin(self._find()))
        return self.value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ends:
            self._ends.pop()()
            if self._left is not None:
                self._left()


class Partition(Within[Pin]):
    """Context manager that pins a scope; entering twice at a time is an error."""

    def _begin(self, pins: Pins) -> Callable[[], None]:
        if self._ends:
            raise RoutingError("R208", f"this partition on {self.value} is entered already")
        pins.add(self.value)
        return partial(pins.remove, self.value)


class Using(Within[Role]):
    """Context manager under which a scope reads from servers of one role; it can be nested."""

    def _begin(self, pins: Pins) -> Callable[[], None]:
        return pins.read_from(self.value)
