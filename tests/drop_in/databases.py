"""Databases as SQLAlchemy's tests expect them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text

from router.testing.servers import PostgresServer

DIALECTS = ("sqlite", "postgresql")
_SCHEMAS = ("test_schema", "test_schema_2")


@contextmanager
def database(dialect: str) -> Iterator[str]:
    """Yield the URL of an empty database, of which others can be made as copies."""
    if dialect == "sqlite":
        yield "sqlite:///:memory:"
        return
    with PostgresServer() as server:
        engine = create_engine(server.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for schema in _SCHEMAS:
                connection.execute(text(f"CREATE SCHEMA {schema}"))
        engine.dispose()
        yield server.url().render_as_string(hide_password=False)
