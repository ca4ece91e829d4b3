"""The repository's own promises: one source for every flag, port and command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.testing.servers import flags
from router.testing.servers.flags import Product, Service

REPOSITORY = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text("utf-8"))
PASSWORD = "${ROUTER_DB_PASSWORD:-router}"
PORTS = {"pg0": 54321, "pg1": 54322, "mysql0": 33061, "mysql1": 33062}


def test_services_of_a_kind_are_started_alike() -> None:
    """The flags read from one service of a kind are those of the other."""
    services = COMPOSE["services"]
    for kind in ("pg", "mysql"):
        first, second = services[f"{kind}0"], services[f"{kind}1"]
        for key in ("image", "command", "environment", "healthcheck"):
            assert first[key] == second[key]


def test_ports_are_on_loopback_and_volumes_have_names() -> None:
    """No service listens to the network, and every volume is declared."""
    for name, port in PORTS.items():
        service = COMPOSE["services"][name]
        assert [entry.rsplit(":", 1)[0] for entry in service["ports"]] == [f"127.0.0.1:{port}"]
        assert [entry.split(":")[0] for entry in service["volumes"]] == [name]
    assert COMPOSE["volumes"].keys() == PORTS.keys()


def test_the_compose_file_is_the_one_that_servers_read() -> None:
    """Without a packaged copy, the flags come from the repository's file."""
    assert flags.compose_file().read_bytes() == (REPOSITORY / "docker-compose.yml").read_bytes()
    assert flags.server_flags(Service.POSTGRES) == tuple(COMPOSE["services"]["pg1"]["command"])
    assert flags.server_flags(Service.MYSQL) == tuple(COMPOSE["services"]["mysql1"]["command"])


def test_nothing_built_is_kept() -> None:
    """Every file is one that somebody reads."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a clone")
    names = [name.decode() for name in listed.stdout.split(b"\0") if name]
    kept = [name for name in names if (REPOSITORY / name).is_file()]
    assert [name for name in kept if b"\0" in (REPOSITORY / name).read_bytes()] == []


def test_two_phase_commit_is_possible_everywhere() -> None:
    """PostgreSQL keeps no prepared transaction unless told to."""
    assert "max_prepared_transactions=64" in flags.server_flags(Service.POSTGRES)


def test_the_password_is_what_compose_substitutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every service takes its password from the variable that the servers read, or its default."""
    for name in PORTS:
        assert PASSWORD in COMPOSE["services"][name]["environment"].values()
    monkeypatch.delenv("ROUTER_DB_PASSWORD", raising=False)
    assert flags.password() == "router"
    monkeypatch.setenv("ROUTER_DB_PASSWORD", "")
    assert flags.password() == "router"
    monkeypatch.setenv("ROUTER_DB_PASSWORD", "other")
    assert flags.password() == "other"


def test_grants_are_those_that_the_product_knows() -> None:
    """MySQL gets every grant of the compose file, MariaDB those it has a name for."""
    mysql, mariadb = (flags.mysql_grants(product) for product in (Product.MYSQL, Product.MARIADB))
    assert [line for line in mysql if line not in mariadb] == [
        "GRANT XA_RECOVER_ADMIN ON *.* TO 'app'@'%';"
    ]


def test_the_map_for_docker_has_the_ports_of_compose() -> None:
    """config/docker.yaml reaches exactly the servers of the compose file."""
    text = (REPOSITORY / "config" / "docker.yaml").read_text(encoding="utf-8")
    urls = re.findall(r"[\w+]+://app:(\S+?)@(?:127\.0\.0\.1|localhost):(\d+)/", text)
    assert {int(port) for _, port in urls} == set(PORTS.values())
    assert {password for password, _ in urls} == {PASSWORD}


@pytest.mark.parametrize(
    "target",
    ["demo", "test", "test-pythons", "lint", "bench", "clean", "venv", "servers"],
)
def test_make_knows(target: str) -> None:
    """The commands that documents name exist, and say nothing unexpected when only shown."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_scripts_can_be_run() -> None:
    """Shell scripts are executable and stop at the first error."""
    for script in (REPOSITORY / ".ci" / "run", *(REPOSITORY / "scripts").glob("*.sh")):
        assert os.access(script, os.X_OK), script
        assert "set -euo pipefail" in script.read_text(encoding="utf-8"), script


def test_the_oldest_sqlalchemy_is_the_one_that_is_tested() -> None:
    """The lower bound in pyproject.toml is the version of the second test run."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    script = (REPOSITORY / "scripts" / "test.sh").read_text(encoding="utf-8")
    oldest = re.search(r"^oldest=(\S+)$", script, re.MULTILINE)
    assert oldest is not None
    assert f"SQLAlchemy>={oldest[1]},<2.2" in project["dependencies"]


@pytest.mark.slow
def test_a_wheel_carries_the_compose_file_and_the_types(tmp_path: Path) -> None:
    """What servers read, and the mark that the package is typed, are in the wheel."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*build, "--directory", tmp_path], cwd=REPOSITORY, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        packaged = archive.read("router/testing/docker-compose.yml")
    assert "router/py.typed" in names
    assert packaged == (REPOSITORY / "docker-compose.yml").read_bytes()
