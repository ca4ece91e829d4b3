"""A commit that recovery has yet to finish in some of its databases."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from router.transaction.probes import probing
from tests.faults.scenes import breaks_commits
from tests.replicas.world import PRIMARY, World
from tests.session.shop import Account, Customer

NAMES = select(Customer.name)


@pytest.mark.parametrize("same", [True, False], ids=["same session", "token"])
def test_what_recovery_commits_is_seen(world: World, same: bool) -> None:
    """No position says when it will be: its databases are read on their primaries."""
    make = world.router.sessionmaker()
    with make() as session:
        with probing(breaks_commits):
            session.execute(update(Account).values(name="new"))
            session.execute(update(Customer).values(name="new"))
            session.commit()
        token = session.token()
        assert token is not None
        assert token.startswith("1~d0~x~d1~x~main~")
        world.servers.catch_up()
        world.pause()
        assert len(world.router.recover()) == 2
        world.places()
        with make(after=None if same else token) as other:
            reader = session if same else other
            assert reader.scalar(select(Account.name)) == "new"
            assert PRIMARY not in world.numbers()
            assert reader.scalars(NAMES).all() == ["new", "new"]
