"""Databases as SQLAlchemy's tests expect them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text

from router.testing.servers import PostgresServer

DIALECTS = ("sqlite", "postgresql", "sqlite+aiosqlite", "postgresql+psycopg_async")
"""Those with a driver for asyncio run the tests of asyncio, too."""
_SCHEMAS = ("test_schema", "test_schema_2")


@contextmanager
def database(dialect: str) -> Iterator[str]:
    """Yield the URL of an empty database, of which others can be made as copies."""
    if dialect.startswith("sqlite"):
        yield f"{dialect}:///:memory:"
        return
    with PostgresServer() as server:
        engine = create_engine(server.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for schema in _SCHEMAS:
                connection.execute(text(f"CREATE SCHEMA {schema}"))
        engine.dispose()
        url = server.url()
        if "+" in dialect:
            url = url.set(drivername=dialect)
        yield url.render_as_string(hide_password=False)
