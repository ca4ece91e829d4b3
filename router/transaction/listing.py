"""Which branches are prepared in a database, by dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from router.transaction.names import PREFIX, Branch, parse_gid, parse_xid


@dataclass(frozen=True, slots=True)
class Listed:
    """A prepared branch, and the id of the connection that prepared it, where that matters."""

    branch: Branch
    connection: int = 0


_PREPARED = text(
    "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE :ours"
)


def _postgresql(connection: Connection) -> list[Listed]:
    found = connection.scalars(_PREPARED, {"ours": f"{PREFIX}.%"}).all()
    branches = [parse_gid(gid) for gid in found]
    return [Listed(branch) for branch in branches if branch is not None]


def _mysql(connection: Connection) -> list[Listed]:
    listed = []
    for _, length, _, data in connection.exec_driver_sql("XA RECOVER").all():
        # What others have chosen need not be text.
        name = data.decode("latin-1") if isinstance(data, (bytes, bytearray)) else str(data)
        found = parse_xid(name[:length], name[length:])
        if found is not None:
            listed.append(Listed(*found))
    return listed


_LIST: Mapping[str, Callable[[Connection], list[Listed]]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
}


def prepared(connection: Connection) -> list[Listed]:
    """Return the branches of ours that are prepared in the database of `connection`.

    A server of MySQL or MariaDB lists those of all its databases.
    """
    find = _LIST.get(connection.dialect.name)
    return find(connection) if find is not None else []
