"""The traps in databases of one dialect: the shards, and one database with all their rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.pool import NullPool

from router import Router
from router.testing import Oracle
from router.testing.servers import PostgresServer, ServerError, running
from router.testing.servers.postgres import SYSTEM_INSTALLATIONS
from tests.oracle import schema
from tests.oracle.rows import Rows, spread
from tests.support.colours import Colour
from tests.support.databases import MakeDatabases, autocommit

DIALECTS = ("sqlite", "postgresql", "postgresql-icu", "mariadb")
ICU = "de_ci"
WITHOUT_ICU = "no PostgreSQL with ICU collations is installed"
CREATE_ICU = "provider = icu, locale = 'und-u-ks-level2', deterministic = false"


class IcuPostgres(PostgresServer):
    """A PostgreSQL of the system's packages: those of a wheel are built without ICU."""

    def _locate(self) -> None:
        patterns = [f"{pattern[1:]}/postgres" for pattern in SYSTEM_INSTALLATIONS]
        found = sorted(one for pattern in patterns for one in Path("/").glob(pattern))
        if not found:
            raise ServerError("R601", WITHOUT_ICU)
        self._bin = found[-1].parent


@contextmanager
def world(
    dialect: str, seed: str, make: MakeDatabases, colour: Colour = Colour.SYNC
) -> Iterator[Oracle]:
    """Yield an oracle over fresh databases with the rows of `seed`.

    Statements are compared within `colour`.
    """
    kind = dialect.partition("-")[0]
    collation = ICU if dialect == "postgresql-icu" else None
    *shards, single = make(kind, schema.DATABASES + 1)
    if collation is not None:
        _create_collation([*shards, single])
    schema.collate(collation)
    engine = create_engine(single)
    try:
        with Router.from_dict(schema.shard_map(shards), metadata=schema.Base.metadata) as router:
            router.create_all()
            spread(router, Rows(seed, kind).all())
            yield _oracle(router, engine, colour, folded=collation is not None)
    finally:
        schema.collate(None)
        engine.dispose()


@contextmanager
def icu_databases() -> Iterator[MakeDatabases]:
    """Yield a maker of databases on a server of its own that knows ICU."""
    server = IcuPostgres()
    with running(server):
        url = server.url()

        def make(kind: str, count: int) -> list[str]:
            names = [f"app_{number}" for number in range(count)]
            with autocommit(url.render_as_string(hide_password=False)) as connection:
                for name in names:
                    connection.execute(text(f"CREATE DATABASE {name}"))
            made = (url.set(database=name) for name in names)
            return [one.render_as_string(hide_password=False) for one in made]

        yield make


def _create_collation(urls: list[str]) -> None:
    for url in urls:
        engine = create_engine(url, poolclass=NullPool)
        try:
            with engine.begin() as connection:
                connection.execute(text(f"CREATE COLLATION {ICU} ({CREATE_ICU})"))
        except sa_exc.NotSupportedError as error:
            raise ServerError("R601", WITHOUT_ICU) from error


def _oracle(router: Router, engine: Engine, colour: Colour, *, folded: bool) -> Oracle:
    sessions = colour.sessions(router)
    key = str.casefold if folded else None
    oracle = Oracle(router, engine, text_key=key, sessions=sessions)
    oracle.fill()
    return oracle
