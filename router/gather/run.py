"""Gathers the tables of a plan, and cleans up whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from sqlalchemy import Connection, Engine, NullPool, create_engine

from router.errors import CrossShardError
from router.execute.parallel import run_all
from router.gather.copying import Opened, open_rows
from router.gather.functions import check_functions
from router.gather.plan import GatherPlan, Source
from router.gather.tables import check_reopenable, create, drop, finish
from router.hooks.colour import settle
from router.route.target import Destination

Connect = Callable[[str], Connection]
"""Returns the session's connection to a database, which sees its uncommitted changes."""


@contextmanager
def gathered(plan: GatherPlan, engine: Engine, connect: Connect) -> Iterator[Connection]:
    """Yield a connection in which the statement of `plan` finds every row that it needs.

    Parameters
    ----------
    engine:
        The engine of the plan's host.  A connection of its own is taken from it: PostgreSQL
        refuses to prepare a transaction that has touched temporary tables.

    Raises
    ------
    CrossShardError
        More rows would be copied than `gather: {max_rows: ...}` allows.
    """
    schemas = {one.table.schema: None for one in plan.copied if one.table.schema is not None}
    with _released(engine.connect()) as connection:
        if schemas:
            # Temporary tables have no schema of their own.
            connection = connection.execution_options(schema_translate_map=schemas)
        try:
            check_reopenable(engine, plan.mentions)
            check_functions(connection, plan.functions)
            _fill(plan, connection, connect)
            yield connection
        except BaseException:
            # Temporary tables live as long as the connection: it is not given to others.
            connection.invalidate()
            raise
        connection.rollback()
        drop(connection, plan.copied)
        connection.commit()


@contextmanager
def _released(connection: Connection) -> Iterator[Connection]:
    """Give a connection back at the end; before SQLAlchemy 2.1 an interruption kept it."""
    try:
        yield connection
    finally:
        settle(connection.close)


def _fill(plan: GatherPlan, connection: Connection, connect: Connect) -> None:
    counts: Counter[str] = Counter()
    run_all([partial(connect, name) for name in plan.databases])
    for source in plan.copied:
        kinds = {connect(at.database).dialect.name for at in source.places}
        origin = connect(source.places[0].database if source.places else plan.host)
        alike = kinds <= {connection.dialect.name}
        create(connection, source, plan.host, origin, alike=alike)
        _copy(plan, source, connection, connect, counts)
        finish(connection, source, counts[source.table.fullname], _joined(plan, source))


def _copy(
    plan: GatherPlan, source: Source, connection: Connection, connect: Connect, counts: Counter[str]
) -> None:
    """Copy a table: every shard begins to send, then one after another is written."""
    left = plan.max_rows - counts.total()
    with ExitStack() as stack:

        def begin(at: Destination) -> Opened:
            opened = open_rows(connect(at.database), connection, source, at.name, left + 1)
            stack.callback(opened.close)
            return opened

        sent = run_all([partial(begin, at) for at in source.places], source.places)
        for opened in sent:
            counts[source.table.fullname] += opened.drain(connection)
            if counts.total() > plan.max_rows:
                raise _too_many(plan, counts)


def _joined(plan: GatherPlan, source: Source) -> set[str]:
    name = source.table.fullname
    return {column for table, column in plan.joined if table == name and column in source.columns}


def _too_many(plan: GatherPlan, counts: Counter[str]) -> CrossShardError:
    read = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
    what = f"more than {plan.max_rows:,} rows would have to be gathered ({read}, and counting)"
    return CrossShardError("R310", what)


def merge_engine(engine: Engine) -> Engine:
    """Return an engine whose connections share nothing with those of a session.

    All connections to an SQLite database in memory are the same one.
    """
    return create_engine("sqlite://", poolclass=NullPool) if is_in_memory(engine) else engine


def is_in_memory(engine: Engine) -> bool:
    """Return whether the database of `engine` is there for its own connections only."""
    url = engine.url
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")
