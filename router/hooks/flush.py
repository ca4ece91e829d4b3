"""A unit of work whose rows go to their own databases, in batches.

The ORM batches consecutive rows of one connection.  Pending rows are therefore numbered
by database before they are sorted, and persistent rows are sorted by database first.  Where all
rows of a batch are new, the databases may insert theirs side by side.

Leans on `UOWTransaction.execute`, `.states`, `.attributes` with its ``pk_cascaded``,
`.states_for_mapper_hierarchy`, `._generate_actions`, `.postsort_actions` and `.transaction`, on
`unitofwork.SaveUpdateAll` and `persistence.save_obj` (`_SaveUpdateAll` and `_save_obj` in 2.1),
`InstanceState.insert_order`, `Mapper._persistent_sortkey_fn`, `Mapper.dispatch` and
`Session.connection_callable`.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.orm import InstanceState, Mapper, persistence, unitofwork
from sqlalchemy.orm.unitofwork import UOWTransaction

from router.hooks.row_handlers import are_foreign


def _either(module: Any, name: str) -> Any:
    """Return what SQLAlchemy 2.1 calls by a name with an underscore."""
    return getattr(module, f"_{name}", None) or getattr(module, name)


_SaveAll: Any = _either(unitofwork, "SaveUpdateAll")
_save = _either(persistence, "save_obj")

Parts = Mapping[int, list[InstanceState[Any]]]
"""Pending rows by the rank of their database."""


class FlushRouting(Protocol):
    """What a session must be able to say during a flush, whose context it is told."""

    context: Any

    def connection_for(self, mapper: Mapper[Any], state: InstanceState[Any]) -> Connection:
        """Return the connection on which the row of `state` is written."""
        ...

    def connection_for_table(self, mapper: Mapper[Any]) -> Any:
        """Return what executes statements on association tables of `mapper`."""
        ...

    def rank(self, state: InstanceState[Any], mapper: Mapper[Any]) -> int:
        """Return the position of the row's database among all; -1 if not known yet."""
        ...

    def overlaps(self, parts: Parts) -> bool:
        """Return whether the databases may insert their rows at the same time."""
        ...

    def side_by_side(self, calls: Mapping[int, Callable[[], None]]) -> None:
        """Make one call for each database, by its rank."""
        ...

    def expect(self, states: Iterable[InstanceState[Any]]) -> None:
        """Look at all rows that will be written, before the first of them is."""
        ...

    def prepare(self, mapper: Mapper[Any]) -> None:
        """Get ready to write rows of `mapper`; called before their order is decided."""
        ...

    def verify(self) -> None:
        """Raise if a row turns out to have been written to the wrong database."""
        ...

    def end(self) -> None:
        """Let go of the flush."""
        ...


class _Transaction:
    """Stands before the flush's transaction and routes the connections it gives."""

    def __init__(self, transaction: Any, routing: FlushRouting) -> None:
        self._transaction = transaction
        self._routing = routing

    def connection(self, mapper: Any, *args: Any, **kw: Any) -> Any:
        return self._routing.connection_for_table(mapper)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)


class ShardUnitOfWork(UOWTransaction):
    """The flush context, turned into this class before it does anything."""

    routing: FlushRouting

    def execute(self) -> None:
        """Run the flush with one connection per row's database."""
        session: Any = self.session
        session._flush_routing = routing = self.routing
        routing.context = self
        original = self.transaction
        self.transaction = _Transaction(original, routing)  # type: ignore[assignment]
        session.connection_callable = _callable(routing)
        try:
            routing.expect(state for state, (delete, _) in self.states.items() if not delete)
            super().execute()
            routing.verify()
        finally:
            session.connection_callable = None
            session._flush_routing = None
            self.transaction = original
            routing.end()

    def states_for_mapper_hierarchy(
        self, mapper: Any, isdelete: Any, listonly: Any
    ) -> Iterator[InstanceState[Any]]:
        """Yield the states of a batch, numbered so that each database's are together."""
        states = self._prepared(mapper, isdelete, listonly)
        if not isdelete:
            number_by_database(states, self.routing)
        return iter(states)

    def save(self, mapper: Mapper[Any]) -> None:
        """Write the rows of a batch that are not deleted."""
        states = self._prepared(mapper, False, False)
        parts = number_by_database(states, self.routing)
        new = sum(map(len, parts.values())) == len(states)
        if new and len(parts) > 1 and not is_heard(mapper) and self.routing.overlaps(parts):
            calls = {rank: partial(_save, mapper, some, self) for rank, some in parts.items()}
            self.routing.side_by_side(calls)
        else:
            _save(mapper, states, self)

    def _prepared(self, mapper: Any, isdelete: Any, listonly: Any) -> list[InstanceState[Any]]:
        found = super().states_for_mapper_hierarchy(mapper, isdelete, listonly)  # type: ignore[no-untyped-call]
        states = list(found)
        for one in {state.manager.mapper for state in states}:
            self.routing.prepare(one)
        return states

    def _generate_actions(self) -> Any:
        found = super()._generate_actions()  # type: ignore[no-untyped-call]
        for action in self.postsort_actions.values():
            if type(action) is _SaveAll:
                action.__class__ = _ShardSaves
        return found


class _ShardSaves(_SaveAll):  # type: ignore[misc]
    """Writes all rows of one hierarchy of mappers that are not deleted."""

    __slots__ = ()

    def execute(self, uow: Any) -> None:
        uow.save(self.mapper)


def _callable(routing: FlushRouting) -> Callable[[Any, Any], Connection]:
    def connection(mapper: Any, instance: Any) -> Connection:
        return routing.connection_for(mapper, instance._sa_instance_state)

    return connection


def adopt(context: Any, routing: FlushRouting) -> None:
    """Turn a fresh flush context into one that routes."""
    context.__class__ = ShardUnitOfWork
    context.routing = routing


def is_deleted(context: Any, state: InstanceState[Any]) -> bool:
    """Return whether a flush deletes the row of `state`."""
    return bool(context.states.get(state, (False, False))[0])


def written_states(context: Any) -> list[tuple[InstanceState[Any], bool]]:
    """Return the rows that a flush writes, in order, and whether it deletes them."""
    states = [(state, deleted) for state, (deleted, only) in context.states.items() if not only]
    new = [pair for pair in states if pair[0].key is None]
    old = [pair for pair in states if pair[0].key is not None]
    new.sort(key=lambda pair: pair[0].insert_order)
    with suppress(TypeError):
        old.sort(key=lambda pair: pair[0].key[1])
    return [*old, *new]


def expect_new_key(context: Any, state: InstanceState[Any], columns: Iterable[Any]) -> None:
    """Let the UPDATE of a row name it by the new values of these columns of its primary key."""
    for column in columns:
        context.attributes["pk_cascaded", state, column] = True


def number_by_database(states: Iterable[Any], routing: FlushRouting) -> Parts:
    """Renumber pending states so that sorting by insert order groups them by database.

    Returns those of each database, in that order.
    """
    pending = [state for state in states if state.key is None]
    numbers = sorted(state.insert_order for state in pending)
    # Keys that defaults give are asked for in the order in which the objects were added.
    pending.sort(key=lambda state: state.insert_order)
    parts: dict[int, list[Any]] = {}
    for state in pending:
        parts.setdefault(routing.rank(state, state.mapper), []).append(state)
    parts = dict(sorted(parts.items()))
    ordered = (state for some in parts.values() for state in some)
    for number, state in zip(numbers, ordered, strict=True):
        state.insert_order = number
    return parts


def is_heard(mapper: Mapper[Any]) -> bool:
    """Return whether handlers are called for new rows, which may use the session meanwhile."""
    heard = (one.dispatch for one in mapper.self_and_descendants)
    return any(are_foreign(one.before_insert) or bool(one.after_insert) for one in heard)


def sort_by_database(mapper: Mapper[Any]) -> None:
    """Make flushes of `mapper` sort persistent rows by database, then by primary key.

    The rank is what `state.session` says, so that other sessions sort as before.
    """
    base: Any = mapper.base_mapper
    original = base._persistent_sortkey_fn
    if getattr(original, "by_database", False):
        return

    def key(state: Any) -> Any:
        routing = getattr(state.session, "_flush_routing", None)
        rank = routing.rank(state, state.mapper) if routing is not None else 0
        return (rank, original(state))

    key.by_database = True  # type: ignore[attr-defined]
    base.__dict__["_persistent_sortkey_fn"] = key
