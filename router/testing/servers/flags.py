"""Flags, grants and the login of the servers, all read from ``docker-compose.yml``.

Tests and the demo start their own servers.  Reading what is special about them from the
compose file makes it impossible that the two drift apart.
"""

from __future__ import annotations

import os
import shlex
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROLE = "app"
"""The login, and the database that it owns."""


class Service(Enum):
    """The kinds of servers in the compose file; the value is one service of each kind."""

    POSTGRES = "pg0"
    MYSQL = "mysql0"


class Product(Enum):
    """The two products that speak MySQL's protocol."""

    MARIADB = "mariadb"
    MYSQL = "mysql"


MYSQL_ONLY_PRIVILEGES = frozenset({"XA_RECOVER_ADMIN"})
"""Privileges that MariaDB does not have; it lets everybody list prepared transactions."""

PRODUCT_FLAGS: dict[Product, tuple[str, ...]] = {
    Product.MARIADB: (),
    # The X protocol would take port 33060, which two servers cannot share.
    Product.MYSQL: ("--mysqlx=OFF",),
}
"""Flags needed beside those of the compose file, by product."""


def compose_file() -> Path:
    """Return the compose file: the copy packaged with a wheel, or the repository's own."""
    packaged = Path(__file__).parents[1] / "docker-compose.yml"
    return packaged if packaged.exists() else Path(__file__).parents[3] / "docker-compose.yml"


@cache
def compose() -> dict[str, Any]:
    """Return the compose file's contents."""
    contents: dict[str, Any] = yaml.safe_load(compose_file().read_text(encoding="utf-8"))
    return contents


def server_flags(service: Service) -> tuple[str, ...]:
    """Return the command line flags of a service."""
    return tuple(compose()["services"][service.value]["command"])


def initdb_arguments() -> tuple[str, ...]:
    """Return what PostgreSQL's ``initdb`` is given: encoding and locale."""
    environment = compose()["services"][Service.POSTGRES.value]["environment"]
    return tuple(shlex.split(environment["POSTGRES_INITDB_ARGS"]))


def mysql_grants(product: Product) -> tuple[str, ...]:
    """Return the GRANT statements of the compose file that `product` understands."""
    lines = compose()["configs"]["mysql-grants"]["content"].splitlines()
    unknown = MYSQL_ONLY_PRIVILEGES if product is Product.MARIADB else frozenset()
    return tuple(line for line in lines if unknown.isdisjoint(line.split()))


def password() -> str:
    """Return the password of `ROLE`, as the compose file would substitute it."""
    return os.environ.get("ROUTER_DB_PASSWORD") or "router"
