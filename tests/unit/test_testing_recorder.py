"""The recorder names the databases that a block touches."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from router import Router
from router.testing import assert_single_shard, forbid_scatter, record


class Base(DeclarativeBase):
    """Base of the models."""


class Thing(Base):
    """A sharded table."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    """Two shards in SQLite files."""
    shards = {
        "version": 1,
        "databases": {name: {"url": f"sqlite:///{tmp_path}/{name}.db"} for name in ("d0", "d1")},
        "keyspaces": {
            "shop": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": {"things": "id"},
            }
        },
        "transactions": {"two_phase": False},
    }
    with Router.from_dict(shards, metadata=Base.metadata) as made:
        made.create_all()
        yield made


def test_replicas(router: Router, tmp_path: Path) -> None:
    """A read from a replica touches its database."""
    copy = {"url": f"sqlite:///{tmp_path}/d0.db", "replicas": [f"sqlite:///{tmp_path}/copy.db"]}
    keyspaces = {"rest": {"database": "d0"}}
    shards = {"version": 1, "databases": {"d0": copy}, "keyspaces": keyspaces}
    shards["binds"] = {"default": "rest"}
    shutil.copy(tmp_path / "d0.db", tmp_path / "copy.db")
    with Router.from_dict(shards, metadata=Base.metadata) as made, made.sessionmaker()() as session:
        for part in (made.engines["d0"], made.replicas["d0"][0]):
            event.listen(
                part, "before_cursor_execute", lambda *seen: urls.append(seen[0].engine.url)
            )
        urls: list[URL] = []
        with record(session) as touched:
            session.scalars(select(Thing)).all()
        assert touched.databases == ("d0",)
        assert [one.database for one in urls] == [f"{tmp_path}/copy.db"]


def test_record(router: Router) -> None:
    """Every statement is recorded with its database, from the router or a session of it."""
    with router.sessionmaker()() as session, record(session) as touched:
        session.scalars(select(Thing).where(Thing.id == 3)).all()
        assert touched.databases == ("d1",)
        session.scalars(select(Thing).where(Thing.id == 2)).all()
    assert touched.databases == ("d1", "d0")
    assert "FROM things" in touched.statements[0].statement
    assert touched.statements[0].parameters == (3,)
    assert "d1 (shop/s1): SELECT" in str(touched)


def test_recording_ends_with_the_block(router: Router) -> None:
    """What comes after the block is not recorded, whatever ended it."""
    with router.sessionmaker()() as session:
        with pytest.raises(ZeroDivisionError), record(router) as touched:
            raise ZeroDivisionError
        session.scalars(select(Thing).where(Thing.id == 3)).all()
    assert touched.statements == []


def test_assert_single_shard(router: Router) -> None:
    """A block on one shard passes; one on two names the statements and the shards."""
    with router.sessionmaker()() as session:
        with assert_single_shard(session):
            session.scalars(select(Thing).where(Thing.id == 3)).all()
        with pytest.raises(AssertionError, match=r"several databases.*\n.*d0 \(shop/s0\): SELECT"):  # noqa: SIM117
            with assert_single_shard(session):
                session.scalars(select(Thing)).all()


def test_forbid_scatter(router: Router) -> None:
    """The statement that goes to a second shard fails where it stands."""
    with router.sessionmaker()() as session, forbid_scatter(router):
        session.scalars(select(Thing).where(Thing.id == 3)).all()
        with pytest.raises(AssertionError, match=r"d1 \(shop/s1\)"):
            session.scalars(select(Thing).where(Thing.id.in_([2, 4]))).all()


def test_only_routers_are_recorded() -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(TypeError, match="neither a router nor a session"), record(object()):
        pass
