"""The state of every database, asked side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import URL, Engine, text
from sqlalchemy import exc as sa_exc

from router.errors import RouterError
from router.replicas.roles import Role
from router.replicas.survey import survey
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
    """One server; `latency` is one round trip in milliseconds, `lag` in seconds."""

    database: str
    server: str
    reachable: bool
    homes: tuple[str, ...]
    version: str = ""
    latency: float | None = None
    error: str = ""
    role: str = Role.PRIMARY.value
    lag: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the status for JSON."""
        return asdict(self)


def statuses(router: Router) -> list[Status]:
    """Ask every database, in the order of the map; wait no longer than connecting may take."""
    names = list(router.engines)
    with ThreadPoolExecutor(max_workers=min(16, len(names) or 1)) as pool:
        found = pool.map(lambda name: [_status(name, router), *_replicas(name, router)], names)
        return [one for some in found for one in some]


def _status(name: str, router: Router) -> Status:
    url = router.shard_map.databases[name].url
    return _asked(name, url, router.engines[name], _homes(name, router))


def _replicas(name: str, router: Router) -> Iterator[Status]:
    """Yield the replicas of a database, with how long they took to have what it has."""
    fleet = router.wiring.fleet
    if fleet is None or name not in fleet:
        return
    replicas = router.shard_map.databases[name].replicas
    for seen, one, engine in zip(
        survey(fleet, name), replicas, router.engines.replicas_of(name), strict=True
    ):
        status = _asked(name, one.url, engine, ())
        wrong = f"{seen.fault.value}: {seen.what}" if seen.fault is not None else ""
        error = status.error or wrong
        yield replace(status, role=Role.REPLICA.value, lag=seen.lag, error=error)


def _asked(name: str, url: URL, engine: Engine, homes: tuple[str, ...]) -> Status:
    place = f"{url.host}:{url.port}" if url.port else url.host or url.database or ""
    server = f"{url.get_backend_name()} {place}"
    try:
        with engine.connect() as connection:
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
