"""What is wrong with the replicas of the map."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import exc as sa_exc

from router.errors import Problem
from router.replicas.fleet import Fleet
from router.replicas.survey import Fault, survey
from router.session.wiring import Wiring

_IDS = {Fault.UNREACHABLE: "R501", Fault.NO_REPLICA: "R128", Fault.BEHIND: "R218"}


def replica_findings(wiring: Wiring) -> Iterator[Problem]:
    """Yield every replica that cannot be reached, is none, or is behind."""
    fleet = wiring.fleet
    if fleet is None:
        return
    names = list(fleet.standings)
    with ThreadPoolExecutor(max_workers=min(16, len(names))) as pool:
        seen = list(pool.map(partial(survey, fleet), names))
    for name, members in zip(names, seen, strict=True):
        where = wiring.shard_map.databases[name].where
        for one in members:
            if one.fault is not None:
                what = f"replica {one.place} of database {name} {one.fault.value}: {one.what}"
                yield Problem(_IDS[one.fault], what, where)
        yield from _positions(name, fleet, where)


def _positions(name: str, fleet: Fleet, where: str) -> Iterator[Problem]:
    standing = fleet.standings[name]
    if not standing.has_positions or standing.settings.max_lag is None:
        return
    try:
        position = fleet.position(name)
    except sa_exc.SQLAlchemyError:
        return
    if position is None:
        what = f"database {name} tells no position, so that its replicas are not read"
        fix = "switch on log_bin on MariaDB, gtid_mode on MySQL; or set `max_lag: null`"
        yield Problem("R128", what, where, fix)
