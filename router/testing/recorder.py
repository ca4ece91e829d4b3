"""Which databases the statements of a block touch.

>>> with record(router) as touched:
...     session.scalars(select(Order).where(Order.customer_id == 7)).all()
>>> touched.databases
('shop_1',)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, event


@dataclass(frozen=True, slots=True)
class Touch:
    """One statement as it left for one database."""

    database: str
    statement: str
    parameters: Any = field(repr=False)


@dataclass
class Touched:
    """The statements of a block, in the order in which they left.

    Parameters
    ----------
    shards:
        The shards, as ``keyspace/shard``, that each database holds.
    """

    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    statements: list[Touch] = field(default_factory=list)

    @property
    def databases(self) -> tuple[str, ...]:
        """The databases touched, each once, in the order of their first statement."""
        return tuple(dict.fromkeys(touch.database for touch in self.statements))

    def __str__(self) -> str:
        return "\n".join(f"  {self._place(one)}: {one.statement}" for one in self.statements)

    def _place(self, touch: Touch) -> str:
        shards = ", ".join(self.shards.get(touch.database, ()))
        return f"{touch.database} ({shards})" if shards else touch.database

    def assert_single_shard(self) -> None:
        """Raise `AssertionError` if statements went to more than one database."""
        if len(self.databases) > 1:
            raise AssertionError(f"several databases were touched:\n{self}")


@contextmanager
def record(router_or_session: Any) -> Iterator[Touched]:
    """Record what leaves for the databases of a router, or of a session's router.

    Statements of other sessions of that router are recorded, too; those of asyncio sessions
    if the router had been asked for such sessions before the block.
    """
    with _listening(router_or_session, _remember) as touched:
        yield touched


@contextmanager
def assert_single_shard(router_or_session: Any) -> Iterator[Touched]:
    """Raise `AssertionError` at the end if the block touched more than one database."""
    with record(router_or_session) as touched:
        yield touched
    touched.assert_single_shard()


@contextmanager
def forbid_scatter(router_or_session: Any) -> Iterator[Touched]:
    """Raise `AssertionError` before a second database is touched, at the statement that does.

    Between two transactions' worth of work use one block each: a block has one database.
    """
    with _listening(router_or_session, _refuse_a_second) as touched:
        yield touched


_Listener = Callable[..., None]


@contextmanager
def _listening(router_or_session: Any, listener: _Listener) -> Iterator[Touched]:
    router = _router_of(router_or_session)
    touched = Touched(_shards(router))
    with ExitStack() as stack:
        for engines in _colours(router):
            for name, engine in engines.items():
                # A replica is another server, and the same database.
                for one in (engine, *engines.replicas_of(name)):
                    _listen(stack, one, partial(listener, touched, name))
        yield touched


def _listen(stack: ExitStack, engine: Engine, listener: _Listener) -> None:
    event.listen(engine, "before_cursor_execute", listener)
    stack.callback(event.remove, engine, "before_cursor_execute", listener)


def _remember(
    touched: Touched,
    database: str,
    connection: Connection,
    cursor: object,
    statement: str,
    parameters: Any,
    context: object,
    executemany: bool,
) -> None:
    del connection, cursor, context, executemany
    touched.statements.append(Touch(database, statement, parameters))


def _refuse_a_second(touched: Touched, database: str, *event: Any) -> None:
    _remember(touched, database, *event)
    touched.assert_single_shard()


def _colours(router: Any) -> list[Any]:
    """Return the engines, and those of asyncio sessions if there are any."""
    sides = getattr(router, "_async_side", {}).values()
    return [router.engines, *(side.wiring.engines for side in sides)]


def _router_of(router_or_session: Any) -> Any:
    if hasattr(router_or_session, "engines"):
        return router_or_session
    below = getattr(router_or_session, "sync_session", router_or_session)
    routing = getattr(below, "_routing", None)
    if routing is None:
        raise TypeError(f"neither a router nor a session of one: {router_or_session!r}")
    return routing.wiring


def _shards(router: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for keyspace in router.shard_map.keyspaces.values():
        for shard, database in getattr(keyspace, "shards", {}).items():
            found.setdefault(database, []).append(f"{keyspace.name}/{shard}")
    return {database: tuple(names) for database, names in found.items()}
