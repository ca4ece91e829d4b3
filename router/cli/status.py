"""The state of every database, asked side by side."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import exc as sa_exc
from sqlalchemy import text

from router.errors import RouterError
from router.router import Router
from router.shardmap.model import ShardedKeyspace

_VERSION = {
    "postgresql": "SHOW server_version",
    "mysql": "SELECT @@version",
    "mariadb": "SELECT @@version",
    "sqlite": "SELECT sqlite_version()",
}


@dataclass(frozen=True, slots=True)
class Status:
    """One database; `latency` is one round trip in milliseconds."""

    database: str
    server: str
    reachable: bool
    homes: tuple[str, ...]
    version: str = ""
    latency: float | None = None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the status for JSON."""
        return asdict(self)


def statuses(router: Router) -> list[Status]:
    """Ask every database, in the order of the map; wait no longer than connecting may take."""
    names = list(router.engines)
    with ThreadPoolExecutor(max_workers=min(16, len(names) or 1)) as pool:
        return list(pool.map(lambda name: _status(name, router), names))


def _status(name: str, router: Router) -> Status:
    url = router.shard_map.databases[name].url
    place = f"{url.host}:{url.port}" if url.port else url.host or url.database or ""
    server, homes = f"{url.get_backend_name()} {place}", _homes(name, router)
    try:
        with router.engines[name].connect() as connection:
            dialect = connection.dialect.name
            version = str(connection.scalar(text(_VERSION.get(dialect, "SELECT 1"))))
            started = time.perf_counter()
            connection.scalar(text("SELECT 1"))
            latency = round((time.perf_counter() - started) * 1000, 2)
    except (RouterError, sa_exc.SQLAlchemyError) as error:
        what = error.what if isinstance(error, RouterError) else str(error).splitlines()[0]
        return Status(name, server, False, homes, error=what)
    return Status(name, server, True, homes, version, latency)


def _homes(name: str, router: Router) -> tuple[str, ...]:
    found: list[str] = []
    for keyspace in router.shard_map.keyspaces.values():
        if isinstance(keyspace, ShardedKeyspace):
            shards = keyspace.shards.items()
            found += [keyspace.shard_id(shard) for shard, home in shards if home == name]
        elif keyspace.database == name:
            found.append(keyspace.name)
    return tuple(found)
