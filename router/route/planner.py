"""Routes statements: the shape once, then a look-up and the values of each execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Delete, Insert, Select, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

from router.hooks.statements import resolved, write_within
from router.route.aim import aim
from router.route.binds import BindTable
from router.route.circumstances import Circumstances, by_function
from router.route.facts import Facts
from router.route.inserts import Inserts
from router.route.parameters import Parameters
from router.route.reading import Reading
from router.route.shape import Shape
from router.route.shaping import unfollowed
from router.route.target import Destination, Reach, Refusal, Target, Tier, refused
from router.route.tiers import ANSWERABLE, exact
from router.route.transfers import Transfers
from router.route.updates import Updates
from router.shardmap.model import ShardMap, UnshardedKeyspace

_LOAD_AFTERWARDS = "execute the write itself with returning(), or one for each shard"


class Planner:
    """Finds the target of any statement; pure but for `Circumstances.locate`.

    Parameters
    ----------
    binds:
        Resolves tables to keyspaces.
    dialects:
        The dialects of the map's databases, with which statements are compiled to be read.
    """

    def __init__(self, binds: BindTable, dialects: Sequence[Dialect]) -> None:
        self.binds = binds
        self._map = binds.shard_map
        self.only = _only_place(self._map)
        """Where every statement goes, if the map has a single place for all of them."""
        self._reading = Reading(binds, dialects)
        self._updates = Updates(self._reading, self._read)
        transfers = Transfers(
            binds, self._query, self._read, lambda query, params: self.facts(query, params)[0]
        )
        self._inserts = Inserts(self._reading, transfers)

    def target(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        """Return where `statement` goes with `params`, and its shape."""
        target, shape = self._found(resolved(statement), params, around)
        if target.refusal is None or self.only is None:
            return target, shape
        # Whatever it is, there is one place for it, and SQLAlchemy knows better what is wrong.
        return Target(Reach.ONE, (self.only,), ("the map has no other database",)), shape

    def in_short(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        """Do as `target` does, in the shortest way for the most frequent query.

        That is one by one key, asked for before, in circumstances in which nothing else counts.
        """
        if around.locate is by_function:
            found = self._reading.recalled(statement, params)
            if found is not None:
                return found
        return self.target(statement, params, around)

    def _found(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        # The most frequent first.
        if isinstance(statement, Select):
            return self._read(statement, params, around)
        if isinstance(statement, Insert):
            return self._inserts.target(statement, params, around)
        if isinstance(statement, (Update, Delete)):
            return self._updates.target(statement, params, around)
        if not isinstance(statement, ClauseElement):
            shape = Shape(refusal=unfollowed(f"it is a {type(statement).__name__}"))
            return aim(shape, Parameters((), {}), self._map, around), shape
        write = write_within(statement)
        # With a hint, the caller says where it goes, as for all that cannot be followed.
        if write is not None and around.hint is None:
            return self._loading(write, params, around)
        return self._read(statement, params, around)

    def shape(self, statement: Any, params: Any) -> tuple[Shape, Parameters]:
        """Return the shape of a query, and its parameters in this execution."""
        return self._reading.query(resolved(statement), _single(params))

    def mentions(self, statement: Any, params: Any) -> tuple[int, ...]:
        """Return what a query, or a write by criteria, is made of; see `Shape.mentions`.

        More criteria must not change that, or they are not only about which rows there are.
        """
        statement = resolved(statement)
        if isinstance(statement, (Update, Delete)):
            return self._updates.shape(statement, params).mentions
        return self.shape(statement, params)[0].mentions

    def facts(self, statement: Any, params: Any) -> tuple[Facts, Shape, Parameters]:
        """Return what is known of a query, and its parameters in this execution."""
        return self._reading.again(resolved(statement), _single(params))

    def _read(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        target, shape = self._query(statement, params, around)
        refusal = target.refusal
        if refusal is None or refusal.id not in ANSWERABLE or not shape.tables:
            return target, shape
        if around.hint is not None:
            return target, shape
        _, parameters = self._reading.query(statement, _single(params))
        return exact(shape, refusal, parameters, self._map, around), shape

    def _loading(self, write: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        """Return the target of a write whose rows are loaded as objects: one place, or none."""
        target, shape = self._found(write, params, around)
        if target.refusal is not None or target.tier is Tier.ONE:
            return target, shape
        what = f"from_statement() of a write that reaches {len(target.destinations)} places"
        return Target(Reach.REFUSED, refusal=Refusal("R305", what, fix=_LOAD_AFTERWARDS)), shape

    def _query(self, statement: Any, params: Any, around: Circumstances) -> tuple[Target, Shape]:
        if params.__class__ in (list, tuple):
            if len(params) > 1:
                return refused("R301", "a query with several sets of parameters"), Shape()
            params = _single(params)
        shape, parameters = self._reading.query(statement, params)
        return aim(shape, parameters, self._map, around), shape


def _only_place(shard_map: ShardMap) -> Destination | None:
    """Return where every statement goes if the map has a single place for all of them."""
    default = shard_map.keyspaces.get(shard_map.binds.default or "")
    if len(shard_map.databases) > 1 or not isinstance(default, UnshardedKeyspace):
        return None
    unsharded = all(isinstance(one, UnshardedKeyspace) for one in shard_map.keyspaces.values())
    return Destination(default.database) if unsharded else None


def _single(params: Any) -> Any:
    if params.__class__ in (list, tuple):
        return params[0] if params else None
    return params
