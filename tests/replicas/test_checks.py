"""What the router says of its replicas."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text, update

from router import Router
from router.cli.output import print_statuses
from router.cli.status import statuses
from router.testing.servers import flags
from tests.replicas.world import NAMES, World
from tests.session.shop import Account, Base, Customer, shard_map

OURS = {"R128", "R218", "R501"}


def found(router: Router) -> list[tuple[str, str]]:
    """Return what `check` finds of replicas: ids, and what is said."""
    return [(one.id, one.what) for one in router.check() if one.id in OURS]


def test_all_is_well(world: World) -> None:
    """Nothing is reported of replicas that keep up; MariaDB's are read_only."""
    assert found(world.router) == []


def test_one_that_cannot_be_reached(world: World) -> None:
    """It is named, without its password."""
    world.cut(1)
    problems = found(world.router)
    assert [one for one, _ in problems] == ["R501"] * 3
    assert all(f":{world.servers.proxies[1].port}" in what for _, what in problems)
    assert all(f":{flags.password()}@" not in what for _, what in problems)


def test_one_that_is_behind(world: World) -> None:
    """Its replay is paused while the primary has more."""
    world.servers.pause(0)
    with world.router.sessionmaker().begin() as session:
        session.execute(update(Account).values(name="new"))
    problems = found(world.router)
    assert {one for one, _ in problems} == {"R218"}
    assert any("of database main" in what for _, what in problems)


def test_one_that_is_none(world: World) -> None:
    """The primary under another name; `router status` says so, too."""
    servers, names = world.servers, world.names
    data = shard_map([servers.url(names[name]) for name in NAMES])
    url = servers.primary.url(names["main"]).set(host="localhost")
    data["databases"]["main"]["replicas"] = [url.render_as_string(hide_password=False)]
    with Router.from_dict(data, metadata=Base.metadata) as router:
        problems = found(router)
        assert [one for one, _ in problems] == ["R128"]
        assert "is no replica" in problems[0][1]
        # Where nothing is replayed, nobody knows how old it is.
        if servers.kind == "postgresql":
            with router.sessionmaker()() as session:
                assert session.scalar(select(Account.name)) == "old"
                query = "SELECT current_setting('transaction_read_only')"
                place = {"keyspace": "accounts"}
                assert session.scalar(text(query), bind_arguments=place) == "off"
        assert "is no replica" in statuses(router)[1].error


def test_status(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Every server with its role; replicas with their lag."""
    seen = statuses(world.router)
    roles = ["primary", "replica", "replica"] * 3
    assert [one.role for one in seen] == roles
    assert [one.lag is not None for one in seen] == [one == "replica" for one in roles]
    assert all(one.reachable and not one.error for one in seen)
    print_statuses(seen)
    assert "replica" in capsys.readouterr().out


def test_explain(world: World) -> None:
    """It says what may be read from replicas."""
    step = "read from replicas"
    assert step in str(world.router.explain(select(Account)))
    assert step in str(world.router.explain(select(func.count()).select_from(Customer)))
    for other in (
        select(Account).with_for_update(),
        select(func.my_function(Account.id)),
        update(Account).values(name="x"),
    ):
        assert step not in str(world.router.explain(other))
