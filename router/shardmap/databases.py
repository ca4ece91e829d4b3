"""The `databases:` of a map: URLs and engine arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from router.shardmap.findings import At, Findings, Path, shown, suggestion
from router.shardmap.model import Database, Replica, Replication, frozen
from router.shardmap.schema import DatabaseModel, ReplicaModel, ReplicationModel

_IN_MEMORY = (None, "", ":memory:")
_DIALECTS = ("postgresql", "mysql", "mariadb", "sqlite")


def build_databases(models: Mapping[str, DatabaseModel], findings: Findings) -> dict[str, Database]:
    """Return the databases with usable URLs; note the URLs that are not."""
    built = (_build(name, model, findings) for name, model in models.items())
    return {database.name: database for database in built if database is not None}


def _build(name: str, model: DatabaseModel, findings: Findings) -> Database | None:
    path: Path = ("databases", name)
    url = _url(model.url, (*path, "url"), findings)
    replicas = list(_replicas(model.replicas, url, path, findings))
    if url is None:
        return None
    engine = frozen(_without_decimals(model.engine))
    return Database(name, url, tuple(replicas), engine, findings.document.where(path, At.KEY))


def _replicas(
    entries: Sequence[str | ReplicaModel], primary: URL | None, path: Path, findings: Findings
) -> Iterator[Replica]:
    seen: list[tuple[object, ...]] = [] if primary is None else [_server_of(primary)]
    for index, entry in enumerate(entries):
        place: Path = (*path, "replicas", index)
        text, weight = (entry, 1) if isinstance(entry, str) else (entry.url, entry.weight)
        place = place if isinstance(entry, str) else (*place, "url")
        replica = _url(text, place, findings)
        if replica is None:
            continue
        if dialect_of(replica) == "sqlite" and replica.database in _IN_MEMORY:
            findings.add("R128", place, "a database in memory is a replica of nothing")
        elif _server_of(replica) in seen:
            findings.add("R128", place, "this is the primary itself, or another of its replicas")
        seen.append(_server_of(replica))
        if primary is not None and dialect_of(primary) != dialect_of(replica):
            what = f"a replica on {dialect_of(replica)} of a database on {dialect_of(primary)}"
            findings.add("R115", place, what)
        yield Replica(replica, weight)


def _server_of(url: URL) -> tuple[object, ...]:
    return dialect_of(url), url.host, url.port, url.database, url.query


def build_replication(model: ReplicationModel, findings: Findings) -> Replication:
    """Return when replicas are read; note limits that no replica could keep."""
    if model.max_lag is not None and model.max_lag < 2 * model.check_every:
        what = (
            f"max_lag is {model.max_lag:g} s: a replica that is looked at every "
            f"{model.check_every:g} s is only known to be as close as twice that"
        )
        findings.add("R128", ("replication",), what)
    return Replication(model.max_lag, model.check_every, model.retry_after, model.wait)


def dialect_of(url: URL) -> str:
    """Return the family of a URL's dialect: MariaDB counts as MySQL."""
    name = url.get_backend_name()
    return "mysql" if name == "mariadb" else name


def place_of(database: Database) -> tuple[object, ...] | None:
    """Return what two databases have in common if they are one; None if that is unknown."""
    url = database.url
    if dialect_of(url) == "sqlite" and url.database in _IN_MEMORY:
        return None
    # Either can select a schema, which makes two databases of one.
    arguments = repr((url.query, database.engine.get("connect_args")))
    return dialect_of(url), url.host, url.port, url.database, arguments


def _url(text: str, path: Path, findings: Findings) -> URL | None:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # What was parsed may hold a password, so nothing of it is repeated.
        findings.add("R108", path, "this is not a URL that SQLAlchemy understands")
        return None
    if what := _why_unusable(url):
        findings.add("R108", path, what)
        return None
    return url


def _why_unusable(url: URL) -> str:
    if "@" in (url.host or ""):
        return "the host has an `@`: write an `@` in a password as `%40`"
    # What str(URL) gives instead of the password.
    if url.password == "***":  # noqa: S105
        return "the password is `***`: use URL.render_as_string(hide_password=False)"
    try:
        url.get_dialect()
    except NoSuchModuleError:
        known = suggestion(url.get_backend_name(), _DIALECTS)
        return f"SQLAlchemy has no dialect {shown(url.drivername.replace('+', '.'))}{known}"
    return ""


def _without_decimals(value: Any) -> Any:
    """Turn fractions into floats, which is what engines take; only keys need them exact."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _without_decimals(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_decimals(inner) for inner in value]
    return value
