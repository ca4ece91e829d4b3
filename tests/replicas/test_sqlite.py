"""SQLite has no positions: its replicas are files that somebody copies."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import ORMExecuteState, with_loader_criteria

from router import Router
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Base, open_router, shard_map

NAME = select(Account.name)


@pytest.fixture
def router(make_databases: MakeDatabases, tmp_path: Path) -> Iterator[Router]:
    """A router whose unsharded database has a copy that was made when its account was old."""
    urls = make_databases("sqlite", 3)
    data = shard_map(urls, transactions={"two_phase": False})
    source, copy = Path(urls[0].partition("///")[2]), tmp_path / "copy.sqlite"
    data["databases"]["main"]["replicas"] = [f"sqlite:///{copy}"]
    with Router.from_dict(data, metadata=Base.metadata) as made:
        made.create_all()
        with made.sessionmaker().begin() as session:
            session.add(Account(id=1, name="old"))
        shutil.copy(source, copy)
        with made.sessionmaker().begin() as session:
            session.execute(update(Account).values(name="new"))
        yield made


def test_a_session_that_has_written_reads_the_primary(router: Router) -> None:
    """For good, and so does one that is given its token; others read the copy."""
    with router.sessionmaker()() as session:
        assert session.scalar(NAME) == "old"
        session.execute(update(Account).values(name="newer"))
        session.commit()
        assert session.scalar(NAME) == "newer"
        token = session.token()
    assert token == "1~main~x"
    with router.sessionmaker()(after=token) as session:
        assert session.scalar(NAME) == "newer"
    with router.sessionmaker()() as session:
        assert session.scalar(NAME) == "old"


def test_a_copy_cannot_be_written(router: Router) -> None:
    """A wrong declaration fails."""
    with router.sessionmaker()() as session, session.using(role="replica"):
        place = {"keyspace": "accounts"}
        assert session.scalar(text("SELECT name FROM accounts"), bind_arguments=place) == "old"
        with pytest.raises(OperationalError, match="readonly"):
            session.execute(text("DELETE FROM accounts"), bind_arguments=place)


def test_handlers_of_statements(router: Router) -> None:
    """What a handler of ``do_orm_execute`` leaves is read from the replica, too."""
    with router.sessionmaker()() as session:

        def handler(state: ORMExecuteState) -> None:
            if state.is_select:
                criteria = with_loader_criteria(Account, Account.id == 1)
                state.statement = state.statement.options(criteria)

        event.listen(session, "do_orm_execute", handler)
        assert session.scalars(select(Account)).one().name == "old"
        session.execute(update(Account).values(name="newer"))
        assert session.scalar(NAME) == "newer"


def test_asyncio(router: Router) -> None:
    """The same, through aiosqlite."""

    async def work() -> None:
        async with router, router.async_sessionmaker()() as session:
            assert await session.scalar(NAME) == "old"
            await session.execute(update(Account).values(name="newer"))
            await session.commit()
            assert await session.scalar(NAME) == "newer"
            assert await session.token() == "1~main~x"

    asyncio.run(work())


def test_a_map_without_replicas(make_databases: MakeDatabases) -> None:
    """Has no tokens, and roles say nothing."""
    lite = open_router(make_databases("sqlite", 3))
    with lite, lite.sessionmaker()() as session:
        session.after("1~main~w1")
        with session.using(role="replica"):
            assert session.scalars(NAME).all() == []
        assert session.token() is None
    assert lite.wiring.fleet is None
    assert set(lite.replicas.values()) == {()}
