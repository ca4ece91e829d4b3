"""Routers over databases with replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.replicas.world import World, databases, opened
from tests.support.replicated import Replicated, replicated

OpenWorld = Callable[..., World]
"""Called with the settings of `replication:`, and with what else the map shall have."""


@pytest.fixture(scope="session", params=["postgresql", "mariadb"])
def servers(request: pytest.FixtureRequest) -> Iterator[Replicated]:
    """A primary and two replicas of each kind in turn."""
    with replicated(request.param) as found:
        yield found


@pytest.fixture(scope="session")
def names(servers: Replicated) -> Iterator[dict[str, str]]:
    """The names of the databases on these servers, with all tables."""
    with databases(servers) as found:
        yield found


@pytest.fixture
def open_world(servers: Replicated, names: dict[str, str]) -> Iterator[OpenWorld]:
    """Open a router over these databases."""
    with ExitStack() as stack:
        yield lambda **kw: stack.enter_context(opened(servers, names, **kw))


@pytest.fixture
def world(open_world: OpenWorld) -> World:
    """A router whose replicas are read however far behind they are; nothing waits for them."""
    return open_world(max_lag=None, wait=0)
