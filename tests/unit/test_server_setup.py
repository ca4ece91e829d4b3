"""What the servers of a test run are set up with, and the databases that tests get on them."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from router.testing.servers import ServerError, flags, postgres
from tests.support.broker import Broker, RemoteBroker, Servers
from tests.support.databases import MakeDatabases, autocommit, fresh_databases, query

# -- what they are started with ------------------------------------------------------------


def test_postgresql_runs_with_the_flags_of_the_compose_file(postgres: str) -> None:
    """Every flag of the compose file came in by the command line."""
    settings = dict(flag.split("=", 1) for flag in flags.server_flags(flags.Service.POSTGRES)[1::2])
    given = query(postgres, "SELECT name FROM pg_settings WHERE source = 'command line'")
    assert {name.lower() for name in settings} <= {str(name).lower() for (name,) in given}
    assert query(postgres, "SHOW max_prepared_transactions") == [("64",)]
    assert settings["max_prepared_transactions"] == "64"


def test_mariadb_runs_with_the_flags_of_the_compose_file(mariadb: str) -> None:
    """Every flag of the compose file is the value of its variable."""
    given = {str(name): value for name, value in query(mariadb, "SHOW GLOBAL VARIABLES")}
    for flag in flags.server_flags(flags.Service.MYSQL):
        name, value = flag.removeprefix("--").split("=")
        alias = {"default-time-zone": "time_zone"}.get(name, name.replace("-", "_"))
        assert given[alias] == value, flag


def test_the_role_of_postgresql_is_an_ordinary_one(postgres: str) -> None:
    """The role `app` is no superuser, may create databases, and owns its own."""
    rights = "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    assert query(postgres, rights) == [(False, True)]
    assert query(postgres, owner) == [("app",)]


def test_the_user_of_mariadb_lists_prepared_transactions(mariadb: str) -> None:
    """The user `app` may run XA RECOVER, and has no right on the server's own tables."""
    assert isinstance(query(mariadb, "XA RECOVER"), list)
    with pytest.raises(Exception, match="denied"):
        query(mariadb, "SELECT * FROM mysql.user")


# -- the fixtures that all other tests use ----------------------------------------------


def test_fresh_databases_are_empty_and_apart(urls: list[str]) -> None:
    """A table made in one database does not show in the other."""
    query(urls[0], "CREATE TABLE t (x int)")
    query(urls[1], "CREATE TABLE t (x int, y int)")
    assert query(urls[0], "SELECT * FROM t") == []


def test_more_databases_than_servers_are_dealt_in_turn(
    make_databases: MakeDatabases, postgres_servers: list[str]
) -> None:
    """Three databases on two servers: the third lies on the first server again."""
    ports = [make_url(url).port for url in make_databases("postgresql", 3)]
    first, second = (make_url(url).port for url in postgres_servers)
    assert first != second
    assert ports == [first, second, first]


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
def test_databases_in_use_are_dropped(servers: Servers, dialect: str, tmp_path: Path) -> None:
    """An open transaction in a database does not keep it from being dropped."""
    with fresh_databases(servers, tmp_path) as make:
        (url,) = make(dialect, 1)
        query(url, "CREATE TABLE t (x int)")
        name = url.rsplit("/", 1)[1].split("?")[0]
        engine = create_engine(url, poolclass=NullPool)
        connection = engine.connect()
        connection.execute(text("INSERT INTO t VALUES (1)"))
    names = {
        "postgresql": "SELECT datname FROM pg_database",
        "mariadb": "SELECT schema_name FROM information_schema.schemata",
    }
    assert (name,) not in query(servers.urls(dialect)[0], names[dialect])
    connection.invalidate()
    connection.close()


def test_databases_with_prepared_transactions_are_dropped(servers: Servers, tmp_path: Path) -> None:
    """What a test left prepared is rolled back with its database."""
    with fresh_databases(servers, tmp_path) as make:
        (url,) = make("postgresql", 1)
        with autocommit(url) as connection:
            connection.exec_driver_sql("BEGIN; CREATE TABLE t (x int); PREPARE TRANSACTION 'left'")
    prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'left'"
    assert query(servers.urls("postgresql")[0], prepared) == [(0,)]


def test_a_worker_gets_the_servers_of_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the connection come the same URLs, and the same error, as from a direct call."""
    monkeypatch.setenv("ROUTER_TEST_MYSQL_URLS", "mysql+pymysql://a/b, mysql+pymysql://c/d")
    broker = Broker()
    remote = RemoteBroker(broker.address())
    monkeypatch.setattr(postgres, "find_binaries", missing)
    try:
        assert remote.urls("mariadb") == broker.urls("mariadb")
        assert len(remote.urls("mariadb")) == 2
        with pytest.raises(ServerError, match="R601 none"):
            remote.urls("postgresql")
    finally:
        broker.close()


def missing() -> Path:
    """Find no programs."""
    raise ServerError("R601", "none")


def test_psycopg_connects_with_the_url_of_the_server(postgres: str) -> None:
    """The URL works for the plain driver too, once SQLAlchemy's driver name is gone."""
    with psycopg.connect(postgres.replace("+psycopg", "")) as connection:
        assert connection.info.dbname == "app"
