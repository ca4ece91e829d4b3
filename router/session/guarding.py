"""The guard of a partition: one key's rows are all that there is.

Statements of the ORM get the criterion of the key, so that they can be written without it.
What protects is not that, but the proof that `router.route.only` asks of every statement and of
every row, which a statement that has slipped past the criterion does not pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Alias, Column, Delete, Insert, Select, Table, Update, bindparam
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from router.errors import RouterError, RoutingError
from router.hooks.guarded import (
    GuardCriteria,
    joined_entities,
    joins_fully,
    optioned,
    restricted,
    shows,
    subqueries,
    with_select,
    with_values,
)
from router.hooks.loaders import loaded_for, refreshed, statement_options
from router.hooks.mappers import all_mappers, tables_of
from router.hooks.statements import is_opaque, plain_table, resolved, selected
from router.route.binds import BindTable, ShardedTable
from router.route.finding import are_equal
from router.route.only import Only
from router.route.outside import UNGUARDED, outside
from router.route.updates import is_bulk
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Plan, Routing
    from router.session.states import KeyAttributes

GUARD = "router_guard"
"""The execution option by which the loaders of a guarded statement know of its guard."""


class Guard:
    """What a guarded partition lets through, and the criteria that say so.

    Parameters
    ----------
    only:
        The key.
    binds:
        Resolves tables to keyspaces.
    """

    def __init__(self, only: Only, binds: BindTable) -> None:
        self.only = only
        self._binds = binds

    @cached_property
    def options(self) -> tuple[Any, ...]:
        """The options with which statements of the ORM are about rows of the key alone."""
        found = ((mapper, self._keys_of(mapper)) for mapper in all_mappers())
        return tuple(
            GuardCriteria(mapper, partial(self._criterion, values=self._parameters(keys)))
            for mapper, keys in found
            if keys is not None and _starts_hierarchy(mapper)
        )

    def criterion(self, entity: Any) -> Any:
        """Return what rows of a mapper, or of an alias, have in common; None: nothing."""
        keys = self._keys_in(entity) if isinstance(entity, Alias) else self._keys_of(entity)
        return None if keys is None else are_equal(keys, self._parameters(keys))

    def _parameters(self, keys: Sequence[Any]) -> list[Any]:
        pairs = zip(keys, self.only.values, strict=True)
        return [
            None if value is None else bindparam("router_guard", value, key.type, unique=True)
            for key, value in pairs
        ]

    def _criterion(self, entity: Any, values: Sequence[Any]) -> Any:
        keys = self._keys_of(entity)
        return None if keys is None else are_equal(keys, values)

    def _keys_in(self, alias: Alias) -> list[Any] | None:
        """Return the key of an alias of a table."""
        columns = self._key(plain_table(alias))
        return None if columns is None else [alias.corresponding_column(one) for one in columns]

    def _keys_of(self, entity: Any) -> list[Any] | None:
        """Return the key of a mapper or an alias of one, as SQL; None if it has none."""
        mapper = entity.mapper
        columns = next((found for one in tables_of(mapper) if (found := self._key(one))), None)
        if columns is None or not shows(entity, columns):
            return None
        try:
            names = [mapper.get_property_by_column(column).key for column in columns]
        except UnmappedColumnError:
            return None
        return [getattr(entity.entity, name).__clause_element__() for name in names]

    def _key(self, table: Table) -> list[Column[Any]] | None:
        try:
            binding = self._binds.of_table(table)
        except RouterError:
            return None
        if not isinstance(binding, ShardedTable) or not self.only.covers(binding.keyspace):
            return None
        columns = {column.name: column for column in table.columns}
        return [columns[name] for name in binding.key]


def _starts_hierarchy(mapper: Mapper[Any]) -> bool:
    """Return whether a criterion of `mapper` holds for its subclasses, and not for its parent's."""
    below = any(one.concrete for one in mapper.self_and_descendants if one is not mapper)
    return (mapper.inherits is None or mapper.concrete) and not below


def is_unguarded(statement: Any, options: Mapping[str, Any]) -> bool:
    """Return whether the application takes a statement out of the guard."""
    return bool(options.get(UNGUARDED) or statement_options(statement).get(UNGUARDED))


class Guarding:
    """The guard of one session."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def guard_of(self, statement: Any, options: Mapping[str, Any]) -> Guard | None:
        """Return the guard that holds for a statement, if any."""
        guard: Guard | None = self._routing.pins.guard or options.get(GUARD)
        return None if guard is None or is_unguarded(statement, options) else guard

    # -- statements ------------------------------------------------------------------------

    def restricted(self, execution: Execution, plan: Plan | None) -> tuple[Execution, Plan | None]:
        """Return an execution that is about the guarded key, and its plan.

        Raises
        ------
        RoutingError
            It is not proven to be.
        """
        statement = resolved(execution.statement)
        guard = self.guard_of(statement, execution.options)
        if guard is None or is_opaque(statement):
            return execution, plan
        self._admit_loader(guard.only, execution.options)
        refusal: RoutingError | None = None
        for candidate in self._candidates(statement, guard, execution):
            try:
                return self._proven(execution, candidate, guard)
            except RoutingError as error:
                if error.id != "R215":
                    raise
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return execution, plan

    def _candidates(self, statement: Any, guard: Guard, execution: Execution) -> Iterator[Any]:
        """Yield what a statement may mean, the most telling first."""
        if isinstance(statement, Insert):
            query = selected(statement)
            if query is not None:
                for one in _restrictions(query, guard):
                    yield with_select(statement, one, guard.options)
            elif (valued := with_values(statement, guard.criterion)) is not None:
                yield valued
            return
        rows = execution.params
        many = rows and isinstance(rows, (list, tuple))
        if isinstance(statement, (Update, Delete)) and many and is_bulk(statement):
            return
        state = refreshed(execution.options)
        if state is not None and isinstance(statement, Select):
            # SQLAlchemy gives such a statement no other criteria.
            own = guard.criterion(state.mapper)
            statement = statement if own is None else statement.where(own)
        yield from _restrictions(statement, guard)

    def _proven(
        self, execution: Execution, statement: Any, guard: Guard
    ) -> tuple[Execution, Plan | None]:
        options = {**execution.options, GUARD: guard}
        found = execution.of(statement).under(options)
        plan = self._routing.plan(found)
        if plan[0].refusal is None:
            mentions = self._routing.wiring.planner.mentions
            params = execution.params
            for before, after in _parts(resolved(execution.statement), statement):
                if mentions(before, params) != mentions(after, params):
                    raise outside("the criterion of the key does not fit an alias in it")
        return found, plan

    # -- objects ---------------------------------------------------------------------------

    def _admit_loader(self, only: Only, options: Mapping[str, Any]) -> None:
        """Raise if what an object refers to, or its own row, is loaded for another key."""
        parent = loaded_for(options)
        if parent is not None:
            self._learn(only, parent)
        for state in (parent, refreshed(options)):
            if state is not None:
                self.admit_object(only, state)

    def _learn(self, only: Only, state: InstanceState[Any]) -> None:
        """Load the key of an object whose row's it is not known to be."""
        for one in self._keys(only, state.mapper):
            if state.key is not None and self._known(one, state) is None:
                for name in one.names:
                    getattr(state.obj(), name)

    def admit_object(self, only: Only, state: InstanceState[Any]) -> None:
        """Raise if the row of an object is known to have another key."""
        for one in self._keys(only, state.mapper):
            key = self._known(one, state)
            if key is not None:
                only.admit_key(one.reader.binding, key)

    def hides(self, state: InstanceState[Any]) -> bool:
        """Return whether an object in the session would not be there for the guarded key."""
        guard = self._routing.pins.guard
        if guard is None:
            return False
        try:
            self.admit_object(guard.only, state)
        except RoutingError:
            return True
        return False

    def _keys(self, only: Only, mapper: Mapper[Any]) -> list[KeyAttributes]:
        with suppress(RouterError):
            keys = self._routing.wiring.states.placement(mapper).keys
            return [one for one in keys if only.covers(one.reader.binding.keyspace)]
        return []

    @staticmethod
    def _known(one: KeyAttributes, state: InstanceState[Any]) -> Any:
        """Return the key that the row of an object has, None if that is not known."""
        if state.key is not None and one.in_primary_key is not None:
            return one.reader.normalise(one.of_identity(state.key))
        if state.key is None:
            raw = one.raw(state)
            return None if None in raw else one.reader.normalise(raw)
        if any(name not in state.dict or one.is_forgotten(state) for name in one.names):
            return None
        return one.reader.normalise(one.committed(state))


def _parts(before: Any, after: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a statement reads, without and with the criteria."""
    if not isinstance(after, Insert):
        yield before, after
    elif selected(after) is not None:
        yield selected(before), selected(after)
    else:
        yield from zip(subqueries(before), subqueries(after), strict=True)


def _restrictions(statement: Any, guard: Guard) -> Iterator[Any]:
    further = restricted(statement, guard.criterion)
    if joins_fully(statement):
        # Wherever a criterion stands, rows without a partner are lost, or others get one.
        yield further
        return
    besides = joined_entities(statement)
    if not besides:
        yield optioned(statement, guard.options)
    options = [one.without(besides) for one in guard.options] if besides else guard.options
    yield optioned(further, options)
    yield further
