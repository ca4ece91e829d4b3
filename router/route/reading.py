"""Reads statements: their shapes, remembered by SQLAlchemy's own statement cache keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import CompoundSelect, Select
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.functions import FunctionElement

from router.errors import RoutingError
from router.hooks.mappers import is_orm
from router.hooks.statements import StatementCache, cache_key
from router.hooks.trace import trace
from router.route.binds import BindTable
from router.route.comparisons import Comparisons
from router.route.facts import Facts, UnreadableError, WritingError
from router.route.harmless import is_harmless
from router.route.parameters import Parameters
from router.route.shape import Shape
from router.route.shaping import comparable, shape_of, unfollowed
from router.route.target import Refusal, Target
from router.shardmap.model import UnshardedKeyspace

CACHED_SHAPES = 2000


class Reading:
    """Finds the shape of a statement once.

    Parameters
    ----------
    binds:
        Resolves tables to keyspaces.
    dialects:
        The dialects of the map's databases, with which statements are compiled to be read.
    """

    def __init__(self, binds: BindTable, dialects: Sequence[Dialect]) -> None:
        self.binds = binds
        self._dialects = tuple(dialects)
        self._shapes = StatementCache(CACHED_SHAPES)
        self._comparable = comparable(binds)

    def query(self, statement: Any, params: Any) -> tuple[Shape, Parameters]:
        """Return the shape of a query and its parameters in this execution."""
        key, binds, given = cache_key(statement)
        shape = self._shapes.get(key) if key is not None else None
        if shape is None:
            shape = self.guarded(lambda: self._query_shape(statement, binds))
            self._shapes.remember(key, shape)
        if given:
            params = {**given, **(params or {})}
        return shape, Parameters(binds, params)

    def recalled(self, statement: Any, params: Any) -> tuple[Target, Shape] | None:
        """Return the target of a query by one key, if it is known already, and its shape."""
        key, binds, given = cache_key(statement)
        shape = self._shapes.get(key) if key is not None else None
        if shape is None or shape.lone is None or given:
            return None
        target = shape.lone.recalled(binds, params)
        return (target, shape) if target is not None else None

    def again(self, statement: Any, params: Any) -> tuple[Facts, Shape, Parameters]:
        """Return the facts about a query, with its shape and its parameters in this execution."""
        shape, parameters = self.query(statement, params)
        _, binds, _ = cache_key(statement)
        return self._query_facts(statement, binds), shape, parameters

    def write(
        self, statement: Any, names: tuple[str, ...], make: Callable[[Any], Shape]
    ) -> tuple[Shape, Callable[[Any], Parameters]]:
        """Return the shape of a write with these names of values, and what reads its rows."""
        key, binds, given = cache_key(statement)
        key = None if key is None else (key, names)
        shape = self._shapes.get(key) if key is not None else None
        if shape is None:
            shape = self.guarded(lambda: make(binds))
            self._shapes.remember(key, shape)
        return shape, lambda row: Parameters(binds, {**given, **(row or {})})

    def facts(
        self,
        statement: Any,
        binds: Sequence[BindParameter[Any]],
        column_keys: list[str] | None = None,
    ) -> Facts:
        """Compile `statement` and return what is to be filled with facts about it."""
        traced = trace(statement, self._dialects, column_keys)
        return Facts(traced, Comparisons(binds), self._comparable)

    @staticmethod
    def guarded(make: Callable[[], Shape]) -> Shape:
        """Return the shape made, or the refusal of a statement that cannot be followed."""
        try:
            return make()
        except (UnreadableError, sa_exc.CompileError) as error:
            writes = isinstance(error, WritingError)
            return Shape(refusal=unfollowed(str(error)), writes=writes)

    def _query_shape(self, statement: Any, binds: Sequence[BindParameter[Any]]) -> Shape:
        facts = self._query_facts(statement, binds)
        shape = shape_of(facts, self.binds)
        if facts.derives and is_orm(statement):
            # A copy of it with other keys would be wrong: SQLAlchemy copies a derived table
            # twice where some of its columns are annotated and others are not.
            shape = replace(shape, narrow=None)
        if not facts.occurrences and shape.refusal is None:
            shape = replace(self._tableless(), fragments=shape.fragments)
        return replace(shape, is_harmless=True) if is_harmless(facts.trace) else shape

    def _query_facts(self, statement: Any, binds: Sequence[BindParameter[Any]]) -> Facts:
        query = statement.element if isinstance(statement, FromStatement) else statement
        if isinstance(query, FunctionElement):
            query = statement = query.select()
        if not isinstance(query, (Select, CompoundSelect)):
            raise UnreadableError(f"it is a {type(query).__name__}")
        # As a whole: the options of an outer statement may change what is in it.
        facts = self.facts(statement, binds)
        facts.read_query(query)
        return facts

    def _tableless(self) -> Shape:
        keyspace = self.binds.default()
        if isinstance(keyspace, UnshardedKeyspace):
            return Shape(unsharded=(keyspace,))
        what = f"the statement names no table, and keyspace {keyspace.name} is sharded"
        return Shape(refusal=Refusal("R202", what, error=RoutingError))
