"""The models and the two worlds that are compared: four shards, and one database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from router import Router
from router.testing.servers import PostgresServer
from router.testing.servers.process import Durability

SHARDS = 4
ROWS = 4_000


class Base(DeclarativeBase):
    """Base of the benchmark's models."""


class Customer(Base):
    """A row of the only table: its primary key is the shard key."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]


Sessions = sessionmaker[Any]


@dataclass(frozen=True, slots=True)
class Worlds:
    """Sessions over four shards, and over one database that holds all of their rows."""

    routed: Sessions
    plain: Sessions
    router: Router
    single: URL

    def keys_of_one_shard(self, count: int) -> list[int]:
        """Return `count` keys that live on the shard of the first."""
        home = self.router.engine_for("shop", 0)
        return [key for key in range(ROWS) if self.router.engine_for("shop", key) is home][:count]


@contextmanager
def worlds(durability: Durability = Durability.NONE) -> Iterator[Worlds]:
    """Start a PostgreSQL server, fill both worlds with the same rows, and stop it at the end."""
    with PostgresServer(durability=durability) as server:
        names = [f"shard{number}" for number in range(SHARDS)]
        _create(server.url(), [*names, "single"])
        router = open_router([server.url(name) for name in names], names)
        engine = create_engine(server.url("single"))
        Base.metadata.create_all(engine)
        plain: Sessions = sessionmaker(engine, class_=Session)
        with router:
            router.create_all()
            routed: Sessions = router.sessionmaker()
            for make in (routed, plain):
                with make.begin() as session:
                    session.add_all(Customer(id=key, name=f"n{key}") for key in range(ROWS))
            yield Worlds(routed, plain, router, engine.url)
        engine.dispose()


def _create(url: URL, names: list[str]) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in names:
            connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()


def open_router(urls: list[URL], names: list[str]) -> Router:
    shard_map = {
        "version": 1,
        "databases": {
            name: {"url": url.render_as_string(hide_password=False)}
            for name, url in zip(names, urls, strict=True)
        },
        "keyspaces": {
            "shop": {
                "shards": {f"s{number}": name for number, name in enumerate(names)},
                "sharding": {"function": "hash", "buckets": 1024},
                "tables": {"customers": "id"},
            }
        },
    }
    return Router.from_dict(shard_map, metadata=Base.metadata)
