"""Fixtures for all tests: real servers, once per run, and fresh databases on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from router.testing.servers import ServerError
from tests.support.broker import KINDS, Broker, RemoteBroker, Servers
from tests.support.databases import MakeDatabases, fresh_databases

NOT_RUN = "NOT RUN, no server:"
DIALECTS = ("sqlite", *KINDS)
SERVERS = pytest.StashKey[Servers]()

# How long an example takes says nothing on a machine that others use, too.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Let the main process own the servers; a worker asks it for them."""
    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    broker = Broker() if worker_input is None else RemoteBroker(worker_input["servers"])
    config.stash[SERVERS] = broker


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where to ask."""
    broker = node.config.stash[SERVERS]
    node.workerinput["servers"] = broker.address()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers."""
    broker = config.stash.get(SERVERS, None)
    if isinstance(broker, Broker):
        broker.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with the kinds of servers that it uses."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        words = {*getattr(item, "fixturenames", ()), *_words(callspec and callspec.params)}
        for kind, names in {
            "postgresql": {"postgresql", "postgres", "postgres_servers"},
            "mariadb": {"mariadb", "mariadb_servers"},
        }.items():
            if words & names:
                item.add_marker(kind)


def _words(params: dict[str, object] | None) -> list[str]:
    return [value for value in (params or {}).values() if isinstance(value, str)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly which tests found no server."""
    skipped = terminalreporter.stats.get("skipped", [])
    missing = sorted({str(report.longrepr[2]) for report in skipped if _not_run(report)})
    if missing:
        count = sum(map(_not_run, skipped))
        terminalreporter.section(f"{count} TESTS NOT RUN", sep="*", red=True, bold=True)
        terminalreporter.line("\n".join(missing))


def _not_run(report: Any) -> bool:
    return isinstance(report.longrepr, tuple) and NOT_RUN in str(report.longrepr[2])


class _Required:
    """The servers of a run; a kind that is not installed skips the test, or fails it in CI."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def urls(self, kind: str) -> list[str]:
        try:
            return self._servers.urls(kind)
        except ServerError as error:
            if error.id == "R601" and os.environ.get("CI", "") in {"", "0", "false"}:
                pytest.skip(f"{NOT_RUN} {error.what}")
            raise


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """All servers of the run, by kind; each kind starts when first asked for."""
    return _Required(pytestconfig.stash[SERVERS])


@pytest.fixture(scope="session")
def postgres_servers(servers: Servers) -> list[str]:
    """URLs of two PostgreSQL servers."""
    return servers.urls("postgresql")


@pytest.fixture(scope="session")
def postgres(postgres_servers: list[str]) -> str:
    """URL of a PostgreSQL server."""
    return postgres_servers[0]


@pytest.fixture(scope="session")
def mariadb_servers(servers: Servers) -> list[str]:
    """URLs of two MariaDB or MySQL servers."""
    return servers.urls("mariadb")


@pytest.fixture(scope="session")
def mariadb(mariadb_servers: list[str]) -> str:
    """URL of a MariaDB or MySQL server."""
    return mariadb_servers[0]


@pytest.fixture
def make_databases(servers: Servers, tmp_path: Path) -> Iterator[MakeDatabases]:
    """Make fresh databases: ``make_databases(kind, count)`` returns their URLs."""
    with fresh_databases(servers, tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_module_databases(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeDatabases]:
    """Make fresh databases that live as long as the tests of one module."""
    with fresh_databases(servers, tmp_path_factory.mktemp("databases")) as make:
        yield make


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn; narrow it by parametrizing it indirectly."""
    kind: str = request.param
    return kind


@pytest.fixture
def urls(dialect: str, make_databases: MakeDatabases) -> list[str]:
    """Two fresh databases of the `dialect`, on two servers where it has servers."""
    return make_databases(dialect, 2)
