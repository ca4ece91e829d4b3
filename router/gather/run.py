"""Gathers the tables of a plan, and cleans up whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, NullPool, create_engine

from router.errors import CrossShardError
from router.gather.copying import copy_rows
from router.gather.functions import check_functions
from router.gather.plan import GatherPlan, Source
from router.gather.tables import check_reopenable, create, drop, finish

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
    with engine.connect() as connection:
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


def _fill(plan: GatherPlan, connection: Connection, connect: Connect) -> None:
    counts: Counter[str] = Counter()
    for source in plan.copied:
        kinds = {connect(at.database).dialect.name for at in source.places}
        create(connection, source, plan.host, alike=kinds <= {connection.dialect.name})
        for at in source.places:
            left = plan.max_rows - counts.total()
            counts[source.table.fullname] += copy_rows(
                connect(at.database), connection, source, at.name, left + 1
            )
            if counts.total() > plan.max_rows:
                raise _too_many(plan, counts)
        finish(connection, source, counts[source.table.fullname], _joined(plan, source))


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
