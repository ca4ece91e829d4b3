"""MariaDB, or MySQL where that is installed, for tests: from the system's own packages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import ClassVar

import pymysql
from sqlalchemy.engine import URL

from router.testing.servers import flags, places
from router.testing.servers.errors import ServerError
from router.testing.servers.flags import Product
from router.testing.servers.process import Durability, Server

# Programs that only an administrator runs are often not on the PATH of others.
EXTRA_PATH = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")
SERVERS = ("mariadbd", "mysqld")
INSTALLERS = ("mariadb-install-db", "mysql_install_db")
SMALL_FLAGS = ("--innodb-buffer-pool-size=64M", "--performance-schema=OFF")
FAST_FLAGS: dict[Product, tuple[str, ...]] = {
    Product.MARIADB: (
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-log-file-size=16M",
        "--sync-frm=OFF",
    ),
    Product.MYSQL: (
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-redo-log-capacity=32M",
        "--skip-log-bin",
    ),
}


class MariaDBServer(Server):
    """A MariaDB or MySQL server with the user and the database `app`.

    The user has all rights on databases whose name begins with ``app``.
    """

    product: ClassVar = "MariaDB"
    accounts: ClassVar = ("mysql", "nobody")
    not_ready: ClassVar = pymysql.OperationalError
    stop_signal: ClassVar = signal.SIGTERM
    discard_signal: ClassVar = signal.SIGKILL

    def url(self, database: str = flags.ROLE) -> URL:
        """Return the URL of a database on this server, password included."""
        return URL.create(
            "mysql+pymysql",
            flags.ROLE,
            flags.password(),
            places.HOST,
            self.port,
            database,
            {"charset": "utf8mb4"},
        )

    def _locate(self) -> None:
        self._server = find_server()
        self._kind = installed_product(self._server)

    def _fast(self) -> tuple[str, ...]:
        return FAST_FLAGS[self._kind] if self.durability is Durability.NONE else ()

    def _initialise(self, data: Path) -> None:
        install: tuple[str | Path, ...]
        if self._kind is Product.MYSQL:
            install = (self._server, "--no-defaults", "--initialize-insecure")
        else:
            install = (_find(INSTALLERS), "--no-defaults", "--skip-test-db")
        self._tool([*install, f"--datadir={data}", f"--tmpdir={self.run}", *self._fast()])

    def _command(self, data: Path) -> list[str]:
        return [
            str(self._server),
            "--no-defaults",
            f"--datadir={data}",
            f"--tmpdir={self.run}",
            f"--socket={self.run / 'socket'}",
            f"--pid-file={self.run / 'server.pid'}",
            f"--bind-address={places.HOST}",
            f"--port={self.port}",
            f"--init-file={self._first_statements()}",
            *flags.server_flags(flags.Service.MYSQL),
            *flags.PRODUCT_FLAGS[self._kind],
            *SMALL_FLAGS,
            *self._fast(),
        ]

    def _first_statements(self) -> Path:
        file = self.run / "init.sql"
        file.touch(mode=0o600)
        file.write_text("\n".join(first_statements(self._kind)) + "\n", encoding="utf-8")
        self._account.own(self.run)
        return file

    def _greet(self) -> None:
        pymysql.connect(
            host=places.HOST,
            port=self.port,
            user=flags.ROLE,
            password=flags.password(),
            database=flags.ROLE,
        ).close()


def first_statements(product: Product) -> tuple[str, ...]:
    """Return what the server executes on every start, before it listens; one line each."""
    user = f"'{flags.ROLE}'@'%'"
    secret = pymysql.converters.escape_string(flags.password())
    # Of MariaDB, root logs in by the socket and as the server's own user only.
    lock_root = ("ALTER USER 'root'@'localhost' ACCOUNT LOCK;",)
    return (
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{secret}';",
        f"ALTER USER {user} IDENTIFIED BY '{secret}';",
        f"CREATE DATABASE IF NOT EXISTS {flags.ROLE};",
        *flags.mysql_grants(product),
        *(lock_root if product is Product.MYSQL else ()),
    )


def find_server() -> Path:
    """Return the server's program; raise R601 where there is none."""
    return _find(SERVERS)


@cache
def installed_product(server: Path) -> Product:
    """Tell MariaDB from MySQL by what the program says of itself."""
    version = subprocess.run(
        [server, "--no-defaults", "--version"], capture_output=True, text=True, check=True
    )
    return Product.MARIADB if "MariaDB" in version.stdout else Product.MYSQL


def _find(names: tuple[str, ...]) -> Path:
    path = os.pathsep.join((os.environ.get("PATH", ""), *EXTRA_PATH))
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    raise ServerError("R601", f"no MariaDB or MySQL server is installed: no {names[0]}")
