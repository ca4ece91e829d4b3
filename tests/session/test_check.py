"""`router.check()`: every difference between the map and the databases."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from router import Router, ShardUnavailableError
from tests.conftest import MakeDatabases
from tests.session.shop import Base, open_router, shard_map


def ids(router: Router) -> list[str]:
    """Return the ids of the findings in order, without what servers of tests are on purpose."""
    # They are fast, and not durable.
    return [problem.id for problem in router.check() if problem.id != "R712"]


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_nothing_to_find(shop: Router) -> None:
    """A map that fits its databases has no findings."""
    assert ids(shop) == []


def test_missing_tables_and_columns(lite: Router) -> None:
    """Each is named with its database."""
    with lite.engines["d1"].begin() as connection:
        connection.execute(text("DROP TABLE lines"))
        connection.execute(text("ALTER TABLE notes DROP COLUMN text"))
    found = [problem for problem in lite.check() if problem.id in ("R701", "R702")]
    assert [(problem.id, problem.what) for problem in found] == [
        ("R702", "table notes of database d1 has no column text"),
        ("R701", "database d1 has no table lines"),
    ]


def test_copies_with_other_rows(lite: Router) -> None:
    """The numbers of rows of a reference table are compared."""
    with lite.engines["d1"].begin() as connection:
        connection.execute(text("INSERT INTO tags VALUES (1)"))
    assert "R706" in ids(lite)


DIFFERENT = {
    "postgresql": ("SET timezone = 'Asia/Tokyo'", "TimeZone"),
    "mariadb": ("COLLATE utf8mb4_bin", "collation"),
}


@pytest.mark.parametrize("dialect", list(DIFFERENT), indirect=True)
def test_servers_that_differ(shop: Router, dialect: str) -> None:
    """What changes answers is the same on all shards, or it is named."""
    change, setting = DIFFERENT[dialect]
    engine = shop.engines["d1"]
    with engine.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {engine.url.database} {change}"))
    shop.dispose()
    found = [problem.what for problem in shop.check() if problem.id == "R705"]
    assert len(found) == 1
    assert f"differ in {setting}: d0: " in found[0]


def test_commits_one_after_another(lite: Router) -> None:
    """`two_phase: false` is said aloud."""
    assert ids(lite) == ["R707"]


def test_sqlite_beside_others(make_databases: MakeDatabases) -> None:
    """SQLite cannot be prepared: one such database can decide, a second one is too many."""
    one, two, three = make_databases("sqlite", 3)
    with open_router([one, two, three], transactions={"two_phase": True}) as router:
        assert ids(router) == ["R708"]
    with open_router([one, *make_databases("postgresql", 2)], transactions={}) as router:
        assert ids(router) == []


def test_commits_that_could_be_lost(make_databases: MakeDatabases) -> None:
    """Databases without a log, and servers that are not durable or wait for ever, are named."""
    urls = make_databases("postgresql", 2)
    with open_router(urls) as router:
        with router.engines["d0"].begin() as connection:
            connection.execute(text("DROP TABLE router_commit_log"))
            name = connection.engine.url.database
            without = f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = 0"
            connection.execute(text(without))
        router.dispose()
        found = [(one.id, one.what.split()[1]) for one in router.check()]
        fast = [one for one in found if one[0] == "R712"]
        assert fast == [("R712", "main"), ("R712", "d0")]
        assert [one for one in found if one not in fast] == [
            ("R711", "d0"),
            ("R713", "d0"),
        ]


def test_privileges(make_databases: MakeDatabases) -> None:
    """Who owns the log may still have been denied to write to it."""
    with open_router(make_databases("postgresql", 2)) as router:
        with router.engines["d0"].begin() as connection:
            connection.execute(text("REVOKE INSERT, DELETE ON router_commit_log FROM app"))
        found = [problem for problem in router.check() if problem.id == "R714"]
        assert [problem.what for problem in found] == [
            "the role of database d0 may not write its decision log",
            "the role of database d0 may not delete from its decision log",
        ]


class Named(DeclarativeBase):
    """Base of a model with a text key."""

    metadata = MetaData()


class Word(Named):
    """A table whose shard key is text."""

    __tablename__ = "words"

    word: Mapped[str] = mapped_column(String(20), primary_key=True)


@pytest.mark.parametrize(
    ("kind", "collation", "found"),
    [
        ("mariadb", "utf8mb4_general_ci", ["R703", "R703"]),
        ("mariadb", "utf8mb4_bin", ["R703", "R703"]),
        ("mariadb", "utf8mb4_nopad_bin", []),
        ("postgresql", '"C"', []),
        ("sqlite", "NOCASE", ["R703", "R703"]),
        ("sqlite", "BINARY", []),
    ],
)
def test_collations_of_text_keys(
    make_databases: MakeDatabases, kind: str, collation: str, found: list[str]
) -> None:
    """Equal keys must be equal strings, or they would hash to different shards."""
    urls = make_databases(kind, 2)
    data = {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            "k": {
                "shards": {"a": "d0", "b": "d1"},
                "sharding": {"function": "hash"},
                "tables": {"words": "word"},
            }
        },
    }
    with Router.from_dict(data, metadata=Named.metadata) as router:
        for name in router.engines:
            with router.engines[name].begin() as connection:
                connection.execute(
                    text(f"CREATE TABLE words (word varchar(20) COLLATE {collation} PRIMARY KEY)")
                )
        assert [one for one in ids(router) if one == "R703"] == found


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_an_unreachable_database(make_databases: MakeDatabases, kind: str) -> None:
    """One finding, without the password; the other databases are examined all the same."""
    urls = make_databases(kind, 2)
    scheme = urls[0].partition("://")[0]
    urls.append(f"{scheme}://app:s3cret@127.0.0.1:9/nowhere")
    with Router.from_dict(shard_map(urls), metadata=Base.metadata) as router:
        found = router.check()
        assert "R501" in [problem.id for problem in found]
        assert "R701" in [problem.id for problem in found]
        assert "s3cret" not in " ".join(map(str, found))
        session = router.sessionmaker()()
        with pytest.raises(ShardUnavailableError, match="d1") as caught:
            session.connection(bind_arguments={"shard": "shop/s1"})
        session.close()
        assert "s3cret" not in f"{caught.value} {caught.value!r}"
        assert caught.value.database == "d1"
