"""What flushes, identity maps and loaders lean on inside SQLAlchemy is where it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, ForeignKey, create_engine, event, insert, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)
from sqlalchemy.orm.unitofwork import UOWTransaction

from router.hooks import flush, identity
from router.hooks.loaders import (
    is_many_to_one,
    loaded_for,
    loading_options,
    loading_relationship,
    refreshed,
    token_of,
    works_for_a_row,
)
from tests.conftest import MakeDatabases


class Base(DeclarativeBase):
    """Base of the models."""


class Owner(Base):
    """Has pets."""

    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(default="o")
    pets: Mapped[list[Pet]] = relationship(back_populates="owner")


class Pet(Base):
    """Has an owner."""

    __tablename__ = "pets"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"))
    owner: Mapped[Owner] = relationship(back_populates="pets")


@pytest.fixture
def engines(make_databases: MakeDatabases) -> Iterator[list[Engine]]:
    """Two databases with all tables."""
    made = [create_engine(url) for url in make_databases("sqlite", 2)]
    for engine in made:
        Base.metadata.create_all(engine)
    yield made
    for engine in made:
        engine.dispose()


# -- flush --------------------------------------------------------------------------------------


@dataclass
class ByParity:
    """Sends even rows to the first connection and odd ones to the second."""

    connections: list[Connection]
    expected: list[int] = field(default_factory=list)
    prepared: set[type] = field(default_factory=set)
    verified: bool = False
    together: list[list[int]] = field(default_factory=list)

    def overlaps(self, parts: flush.Parts) -> bool:
        return all(len(some) > 1 for some in parts.values())

    def side_by_side(self, calls: Mapping[int, Callable[[], None]]) -> None:
        self.together.append(list(calls))
        for call in calls.values():
            call()

    def connection_for(self, mapper: Any, state: Any) -> Connection:
        return self.connections[self.rank(state, mapper)]

    def connection_for_table(self, mapper: Any) -> Any:
        return self.connections[0]

    def rank(self, state: Any, mapper: Any) -> int:
        return int(state.dict["id"]) % 2

    def expect(self, states: Iterable[Any]) -> None:
        self.expected += [state.dict["id"] for state in states]

    def prepare(self, mapper: Any) -> None:
        self.prepared.add(mapper.class_)
        flush.sort_by_database(mapper)

    def end(self) -> None:
        """Hold nothing of the flush."""
        self.context = None

    def verify(self) -> None:
        self.verified = True


def test_a_flush_by_row_in_batches(engines: list[Engine]) -> None:
    """Every row reaches the connection that it is given, consecutively; nothing stays behind."""
    sent: list[tuple[int, str]] = []
    for number, engine in enumerate(engines):
        event.listen(
            engine,
            "before_cursor_execute",
            lambda *given, number=number: sent.append((number, given[2].split()[0])),
        )
    with engines[0].begin() as even, engines[1].begin() as odd, Session(even) as session:
        routing = ByParity([even, odd])
        event.listen(session, "before_flush", lambda s, context, _: flush.adopt(context, routing))
        owners = [Owner(id=number, name="o") for number in range(6)]
        session.add_all(owners)
        session.flush()
        assert sent == [(0, "INSERT"), (1, "INSERT")]
        assert sorted(routing.expected) == list(range(6))
        assert routing.prepared == {Owner}
        assert routing.verified
        sent.clear()
        for owner in owners:
            owner.name = "changed"
        session.flush()
        assert sent == [(0, "UPDATE"), (1, "UPDATE")]
        # Only new rows, and only if the session likes it.
        assert routing.together == [[0, 1]]
        session.add_all([Owner(id=number, name="o") for number in (6, 7)])
        session.flush()
        assert routing.together == [[0, 1]]
        assert session.connection_callable is None
        assert even.execute(select(Owner.id)).scalars().all() == [0, 2, 4, 6]
        assert odd.execute(select(Owner.id)).scalars().all() == [1, 3, 5, 7]


def test_parts_of_a_flush(engines: list[Engine]) -> None:
    """Contexts, numbers of pending rows and sort keys are what the hook takes them for."""
    seen: list[Any] = []
    with Session(engines[0]) as session:
        event.listen(session, "before_flush", lambda s, context, _: seen.append(context))
        owners = [Owner(id=number) for number in (3, 1, 2)]
        session.add_all(owners)
        states = [inspect_state(owner) for owner in owners]
        assert sorted(one.insert_order for one in states) == [one.insert_order for one in states]
        flush.number_by_database(states, ByParity([]))
        assert sorted(states, key=lambda one: one.insert_order) == [states[2], *states[:2]]
        session.flush()
        assert type(seen[0]) is UOWTransaction
        parts = ("execute", "states", "states_for_mapper_hierarchy", "transaction")
        assert [part for part in parts if not hasattr(seen[0], part)] == []
        plain: Any = Pet.__mapper__._persistent_sortkey_fn
        flush.sort_by_database(Pet.__mapper__)
        flush.sort_by_database(Pet.__mapper__)
        found: Any = Pet.__mapper__._persistent_sortkey_fn
        pet = Pet(id=5, owner=owners[0])
        session.add(pet)
        session.flush()
        assert found(inspect_state(pet)) == (0, plain(inspect_state(pet)))


def inspect_state(one: Any) -> Any:
    """Return the state of an object."""
    return one._sa_instance_state


# -- identity -----------------------------------------------------------------------------------


def test_identity_maps(engines: list[Engine]) -> None:
    """Rows that need it are told apart by their token, others lose it, however they are found."""
    with Session(engines[0]) as session:
        session.add(Owner(id=1, pets=[Pet(id=1)]))
        session.commit()
        session.expunge_all()
        assert type(session.identity_map) is identity._Base
        identity.tell_shards_apart(session.identity_map, lambda mapped: mapped is Pet)
        assert isinstance(session.identity_map, identity.ShardIdentityMap)
        owners, pets = [], []
        for token in ("a", "b"):
            options = {"identity_token": token}
            owners.append(session.scalars(select(Owner), execution_options=options).one())
            pets.append(session.scalars(select(Pet), execution_options=options).one())
        assert owners[0] is owners[1]
        assert [inspect_state(one).key[2] for one in (*owners, *pets)] == [None, None, "a", "b"]
        assert inspect_state(owners[0]).identity_token is None
        assert session.get(Owner, 1, identity_token="z") is owners[0]
        assert session.get(Pet, 1, identity_token="b") is pets[1]
        assert (Owner, (1,), "z") in session.identity_map
        assert session.identity_map[Owner, (1,), "z"] is owners[0]
        assert (Pet, (1,), "z") not in session.identity_map


def test_overridden_methods_of_identity_maps() -> None:
    """Each is one of SQLAlchemy's, with the same parameters."""
    own = vars(identity.ShardIdentityMap)
    methods = {name for name in own if inspect.isfunction(own[name])} - {"_plain"}
    assert "_add_unpresent" in methods
    for name in methods:
        theirs = inspect.signature(getattr(identity._Base, name))
        assert list(inspect.signature(own[name]).parameters) == list(theirs.parameters)


# -- loaders ------------------------------------------------------------------------------------


class Recording(Session):
    """Notes what it is told to execute, as the loaders say it."""

    def execute(self, statement: Any, *given: Any, **kw: Any) -> Any:
        self.info.setdefault("told", []).append((statement, kw.get("execution_options") or {}))
        return super().execute(statement, *given, **kw)

    def told(self) -> list[Any]:
        """Return what was executed since the last time."""
        found: list[Any] = self.info.pop("told", [])
        return found


@pytest.fixture
def recording(engines: list[Engine]) -> Iterator[Recording]:
    """A session with an owner of two pets."""
    with Recording(engines[0]) as session:
        session.add(Owner(id=1, pets=[Pet(id=1), Pet(id=2)]))
        session.commit()
        session.expunge_all()
        session.told()
        yield session


def test_lazy_loads_and_refreshes_name_their_object(recording: Recording) -> None:
    """And the relationship that they load; ordinary statements work for nothing."""
    pet = recording.scalars(select(Pet).where(Pet.id == 1)).one()
    ((statement, options),) = [*recording.told()] or [(select(Pet), {})]
    assert not works_for_a_row(statement, options)
    assert loading_relationship(statement) is None
    assert [one.id for one in pet.owner.pets] == [1, 2]
    (one, one_options), (many, many_options) = recording.told()
    assert loaded_for(one_options) is inspect_state(pet)
    assert loaded_for(many_options) is inspect_state(pet.owner)
    assert loading_relationship(many) is Owner.pets.property
    assert works_for_a_row(many, many_options)
    assert works_for_a_row(one, one_options)
    for load in (
        lambda: recording.refresh(pet),
        lambda: (recording.expire(pet), pet.owner_id),
    ):
        load()
        ((statement, options),) = recording.told()
        assert refreshed(options) is inspect_state(pet)
        assert works_for_a_row(statement, options)


@pytest.mark.parametrize("load", [selectinload, subqueryload])
def test_eager_loads_name_their_relationship_and_token(recording: Recording, load: Any) -> None:
    """The token is that of the query which they work for."""
    statement = select(Owner).options(load(Owner.pets))
    recording.execute(statement, execution_options={"identity_token": "t"}).scalars().all()
    (outer, outer_options), (inner, options) = recording.told()
    assert token_of(outer, outer_options) == "t"
    assert loading_relationship(inner) is Owner.pets.property
    assert token_of(inner, options) == "t"
    assert loaded_for(options) is None
    joined = select(Owner).options(joinedload(Owner.pets)).execution_options(identity_token="u")
    assert token_of(joined, {}) == "u"


def test_tokens_of_get_and_of_written_rows(recording: Recording) -> None:
    """`get()` passes its token; rows that a write returns get the one they are told to have."""
    recording.get(Owner, 1, identity_token="t")
    ((statement, options),) = recording.told()
    assert token_of(statement, options) == "t"
    assert works_for_a_row(statement, options)
    returning = insert(Owner).values(id=2, name="n").returning(Owner)
    one = recording.scalars(returning, execution_options=loading_options("w", {})).one()
    assert inspect_state(one).key == (Owner, (2,), "w")


def test_directions() -> None:
    """The side of the foreign key is known."""
    assert is_many_to_one(Pet.owner.property)
    assert not is_many_to_one(Owner.pets.property)
