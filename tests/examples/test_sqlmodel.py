"""SQLModel's models and statements, in our sessions."""

# SQLModel reads annotations when a class is made, so that they are not postponed here.

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import registry, selectinload
from sqlmodel import Field, Relationship, SQLModel, select
from sqlmodel.sql.expression import SelectOfScalar

from router import Router, RoutingError, RoutingSession
from tests.conftest import MakeDatabases


class Base(SQLModel, registry=registry()):
    """Base of the models; without it, all tables of all programs would be in one metadata."""


class Country(Base, table=True):
    """A reference table."""

    __tablename__ = "countries"

    code: str = Field(primary_key=True, max_length=2)


class Team(Base, table=True):
    """The primary key is the shard key."""

    __tablename__ = "teams"

    id: int | None = Field(
        default=None, primary_key=True, sa_column_kwargs={"autoincrement": False}
    )
    name: str
    country_code: str | None = Field(default=None, foreign_key="countries.code")
    country: Country | None = Relationship()
    heroes: list["Hero"] = Relationship(back_populates="team", cascade_delete=True)


class Hero(Base, table=True):
    """With its team."""

    __tablename__ = "heroes"

    team_id: int = Field(foreign_key="teams.id", primary_key=True)
    name: str = Field(primary_key=True)
    age: int | None = None
    team: Team | None = Relationship(back_populates="heroes")


class Secret(Base, table=True):
    """Not sharded."""

    __tablename__ = "secrets"

    id: int | None = Field(default=None, primary_key=True)
    text: str


class ExecSession(RoutingSession):
    """A session with SQLModel's `exec`."""

    def exec(self, statement: Any, **kw: Any) -> Any:
        """Execute a statement; one column comes as scalars."""
        result = self.execute(statement, **kw)
        return result.scalars() if isinstance(statement, SelectOfScalar) else result


KEYSPACES = {
    "league": {
        "shards": {"s0": "d0", "s1": "d1"},
        "sharding": {"function": "modulo"},
        "tables": {"teams": "id", "heroes": "team_id"},
        "reference_tables": ["countries"],
    },
    "secrets": {"database": "main"},
}


@pytest.fixture
def router(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """A router over two shards and one more database, with the tables made."""
    urls = make_databases(dialect, 3)
    data = {
        "version": 1,
        "databases": {
            name: {"url": url} for name, url in zip(("main", "d0", "d1"), urls, strict=True)
        },
        "keyspaces": KEYSPACES,
        "binds": {"tables": {"secrets": "secrets"}},
        "transactions": {"two_phase": dialect != "sqlite"},
    }
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        yield router


def teams() -> list[Team]:
    """Return teams for both shards."""
    country = Country(code="IS")
    return [
        Team(id=number, name=f"team {number}", country=country, heroes=heroes)
        for number, heroes in {
            1: [Hero(name="Ada", age=36), Hero(name="Bob", age=20)],
            2: [Hero(name="Cyd", age=44)],
            3: [],
        }.items()
    ]


pytestmark = pytest.mark.parametrize("dialect", ["sqlite", "postgresql"], indirect=True)


def test_rows_are_where_their_keys_say(router: Router) -> None:
    """Those that came in by relationships, too."""
    with router.sessionmaker().begin() as session:
        session.add_all([*teams(), Secret(text="hush")])
    found = {}
    for name in ("main", "d0", "d1"):
        with router.engines[name].connect() as connection:
            tables = Base.metadata.sorted_tables
            here = [table for table in tables if (table.name == "secrets") == (name == "main")]
            counts = (select(func.count()).select_from(table) for table in here)
            found[name] = {
                table.name: connection.scalar(count)
                for table, count in zip(here, counts, strict=True)
            }
    assert found == {
        "main": {"secrets": 1},
        "d0": {"countries": 1, "teams": 1, "heroes": 1},
        "d1": {"countries": 1, "teams": 2, "heroes": 2},
    }


def test_sqlmodels_statements(router: Router) -> None:
    """Its `select`, by `exec`, gives objects for one entity and rows for several."""
    Session = router.sessionmaker(class_=ExecSession)
    with Session.begin() as session:
        session.add_all(teams())
    with Session() as session:
        heroes = session.exec(select(Hero).order_by(Hero.name.desc()).limit(2)).all()
        assert [hero.name for hero in heroes] == ["Cyd", "Bob"]
        rows = session.exec(
            select(Team.name, func.count(Hero.name))
            .join(Hero, isouter=True)
            .group_by(Team.id, Team.name)
            .order_by(Team.id)
        ).all()
        assert [tuple(row) for row in rows] == [("team 1", 2), ("team 2", 1), ("team 3", 0)]
        assert session.exec(select(func.sum(Hero.age))).one() == 100
        assert session.exec(select(Hero).where(Hero.team_id == 2)).one().name == "Cyd"


def test_relationships_get_and_deletes(router: Router) -> None:
    """Lazy and eager loads, cascades and bulk statements; a reference row is one object."""
    Session = router.sessionmaker()
    with Session.begin() as session:
        session.add_all(teams())
    with Session.begin() as session:
        one, two = session.get_one(Team, 1), session.get_one(Team, 2)
        assert sorted(hero.name for hero in one.heroes) == ["Ada", "Bob"]
        assert one.country is two.country
        assert one.heroes[0].team is one
        session.execute(update(Hero).where(Hero.age > 30).values(age=30))
        session.delete(one)
    with Session() as session:
        loaded = session.scalars(select(Team).options(selectinload(Team.heroes))).all()
        ages = {team.id: [hero.age for hero in team.heroes] for team in loaded}
        assert ages == {2: [30], 3: []}


def test_partitions_and_lost_keys(router: Router) -> None:
    """A model without its key is refused, and so is one of another shard."""
    Session = router.sessionmaker()
    with Session() as session, session.partition(1, keyspace="league"):
        session.add(Team(id=2, name="elsewhere"))
        with pytest.raises(RoutingError, match="R208"):
            session.flush()
    with Session() as session:
        session.add(Hero(name="nobody's"))
        with pytest.raises(RoutingError, match="R202"):
            session.flush()


def test_answers_of_fastapi_are_made_of_them(router: Router) -> None:
    """What was loaded over shards validates and dumps as any model does."""
    with router.sessionmaker()() as session:
        session.add_all(teams())
        session.commit()
        team = session.scalars(select(Team).where(Team.name == "team 2")).one()
        assert team.model_dump() == {"id": 2, "name": "team 2", "country_code": "IS"}
        assert Team.model_validate(team) == team


def test_asyncio(router: Router) -> None:
    """The same models, in asyncio sessions."""

    async def main() -> None:
        async with router:
            Session = router.async_sessionmaker()
            async with Session.begin() as session:
                session.add_all(teams())
            async with Session() as session:
                with session.partition(1, keyspace="league"):
                    assert len((await session.scalars(select(Hero))).all()) == 2
                team = await session.get_one(Team, 2, options=[selectinload(Team.heroes)])
                assert [hero.name for hero in team.heroes] == ["Cyd"]
                names = select(Hero.name).order_by(Hero.name)
                assert (await session.scalars(names)).all() == ["Ada", "Bob", "Cyd"]

    asyncio.run(main())
