"""How the unit of work names rows, and what that is to a guard: objects may say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import ForeignKey, Index, String, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    composite,
    make_transient_to_detached,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.attributes import set_committed_value

from router import CrossShardError, Router, RoutingError
from tests.conftest import MakeDatabases

MINE, OTHER = 1, 3


@dataclass
class Whose:
    """A tenant, and what it calls something."""

    tenant_id: int
    code: int


class Base(DeclarativeBase):
    """Base of the models."""


class Card(Base):
    """The primary key does not contain the shard key; a card may stand on another."""

    __tablename__ = "cards"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[int]
    code: Mapped[int] = mapped_column(unique=True)
    text: Mapped[str] = mapped_column(String(40), default="")
    on_id: Mapped[int | None] = mapped_column(ForeignKey("cards.id"))
    whose: Mapped[Whose] = composite("tenant_id", "code")
    on: Mapped[Card | None] = relationship(remote_side="Card.id", post_update=True)


class Coded(Base):
    """Rows of the same table, named by their code."""

    __table__ = Card.__table__
    __mapper_args__ = {"primary_key": [Card.__table__.c.code]}  # noqa: RUF012 - as declared


class Owned(Base):
    """Rows of the same table, with a hybrid attribute that may set any column."""

    __table__ = Card.__table__

    @hybrid_property
    def owner(self) -> int:
        """The tenant."""
        return self.tenant_id  # type: ignore[attr-defined, no-any-return]

    if hasattr(hybrid_property, "bulk_dml"):

        @owner.inplace.bulk_dml
        @classmethod
        def _set_owner(cls, row: dict[str, Any], value: int) -> None:
            row["tenant_id"] = value


class Part(Base):
    """The primary key contains the shard key."""

    __tablename__ = "parts"

    tenant_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(40), default="")


class Worded(Base):
    """Rows of the same table, named by what they say."""

    __table__ = Part.__table__
    __mapper_args__ = {  # noqa: RUF012 - as declared
        "primary_key": [Part.__table__.c.text],
        "exclude_properties": ["number"],
    }


class Place(Base):
    """The primary key contains the shard key, and an index computes something of it."""

    __tablename__ = "places"

    tenant_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(40), default="")


Index("odd_places", Place.tenant_id % 2, Place.text, unique=True)


class Seat(Base):
    """The same with an index that only sorts."""

    __tablename__ = "seats"

    tenant_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(40), default="")


Index("seats_by_text", Seat.tenant_id.desc(), Seat.text, unique=True)


CARDS = [
    {"id": 10, "tenant_id": MINE, "code": 30, "text": "m"},
    {"id": 11, "tenant_id": MINE, "code": 11, "text": "m"},
    # Its id is the code of the guarded tenant's, and the other way round.
    {"id": 30, "tenant_id": OTHER, "code": 10, "text": "o"},
]
PARTS = [{"tenant_id": tenant, "number": 1, "text": "p"} for tenant in (MINE, OTHER)]


@pytest.fixture
def cards(make_databases: MakeDatabases) -> Iterator[Router]:
    """Two tenants on one of two shards."""
    urls = make_databases("sqlite", 2)
    data: dict[str, Any] = {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            "shop": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": dict.fromkeys(("cards", "parts", "places", "seats"), "tenant_id"),
            }
        },
        "transactions": {"two_phase": False},
    }
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        with router.engines["d1"].begin() as connection:
            connection.execute(insert(Card.__table__), CARDS)
            for table in (Part.__table__, Place.__table__, Seat.__table__):
                connection.execute(insert(table), PARTS[1:] if table is Place.__table__ else PARTS)
        yield router


def others(router: Router) -> list[Any]:
    """Return the rows of the other tenant."""
    with router.engines["d1"].connect() as connection:
        return [
            connection.execute(select(table).where(table.c.tenant_id == OTHER)).all()
            for table in Base.metadata.sorted_tables
        ]


def made_up(session: Session) -> None:
    """Change a row by a code that is the id of a row of the tenant's own."""
    one = Coded(code=10, id=30, tenant_id=MINE, text="o")
    one._sa_instance_state.identity_token = "shop/s1"  # type: ignore[attr-defined]
    make_transient_to_detached(one)
    session.add(one)
    one.text = "stolen"  # type: ignore[attr-defined]


def renamed(session: Session, *, delete: bool = False) -> None:
    """Write the row of an object that has been told another primary key."""
    one = session.get_one(Card, 10)
    set_committed_value(one, "id", 30)
    one.text = "stolen"
    if delete:
        session.delete(one)


def rekeyed(session: Session, *, delete: bool = False) -> Part:
    """Write the row of an object that has been told another shard key."""
    one = session.get_one(Part, (MINE, 1))
    set_committed_value(one, "tenant_id", OTHER)
    one.text = "stolen"
    if delete:
        session.delete(one)
    return one


def changed_and_deleted(session: Session) -> None:
    """Delete an object after its primary key was changed: a statement before goes by the new."""
    one = session.get_one(Card, 10)
    one.on = session.get_one(Card, 11)
    session.flush()
    one.id = 30
    session.delete(one)


REFUSED: dict[str, Callable[[Session], Any]] = {
    "made up": made_up,
    "renamed": renamed,
    "renamed and deleted": lambda s: renamed(s, delete=True),
    "rekeyed": rekeyed,
    "rekeyed and deleted": lambda s: rekeyed(s, delete=True),
    "changed and deleted": changed_and_deleted,
    "a function": lambda s: setattr(s.get_one(Card, 10), "text", func.query_to_xml("cards")),
    "a function of a new row": lambda s: s.add(
        Card(id=12, tenant_id=MINE, code=12, text=func.query_to_xml("cards"))
    ),
    "a query": lambda s: setattr(
        s.get_one(Card, 10), "text", select(func.max(Card.__table__.c.text)).scalar_subquery()
    ),
    "a query of the ORM": lambda s: setattr(
        s.get_one(Part, (MINE, 1)), "text", select(func.max(Card.text)).scalar_subquery()
    ),
}
"""Name: what is refused when it is flushed."""


@pytest.mark.parametrize("name", REFUSED)
def test_rows_are_proven_as_they_are_named(cards: Router, name: str) -> None:
    """By the values that the statements of a flush will have, whatever the identity says."""
    before = others(cards)
    with cards.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        REFUSED[name](session)
        with pytest.raises(RoutingError, match="R215"):
            session.flush()
        session.rollback()
        session.commit()
    assert others(cards) == before


def test_objects_in_bulk_are_named_by_their_attributes(cards: Router) -> None:
    """Bulk operations do not look at identities."""
    with cards.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        with pytest.raises(RoutingError, match=r"R203|R215"):
            session.bulk_save_objects([rekeyed(session)])
        session.rollback()
        one = session.get_one(Part, (MINE, 1))
        one.text = "own"
        session.bulk_save_objects([one])
        session.commit()
        assert session.scalars(select(Part.text)).all() == ["own"]


def test_ones_own_rows(cards: Router) -> None:
    """Other primary keys than the table's, changed ones, and expressions of a row do not matter."""
    before = others(cards)
    with cards.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        coded = session.get_one(Coded, 30)
        coded.text = "own"  # type: ignore[attr-defined]
        session.commit()
        card = session.get_one(Card, 10)
        card.id, card.text = 12, func.upper(Card.text) + "!"
        session.commit()
        card.code = Card.code + 100
        session.flush()
        assert (card.id, card.text, card.code) == (12, "OWN!", 130)
        session.get_one(Part, (MINE, 1)).number = 5
        session.commit()
        session.delete(session.get_one(Part, (MINE, 5)))
        session.delete(card)
        session.commit()
        assert session.scalars(select(Card.id)).all() == [11]
        assert session.execute(update(Card), {"text": "all"}).rowcount == 1  # type: ignore[attr-defined]
        session.commit()
    assert others(cards) == before


TWICE = {"id": 99, "tenant_id": MINE, "code": 9, "whose": Whose(OTHER, 9)}
"""A row in which one attribute sets what another has given."""


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.execute(insert(Card), [TWICE]),
        lambda s: s.execute(insert(Card), TWICE),
        lambda s: s.scalars(insert(Card).returning(Card.id), [TWICE]),
        lambda s: s.bulk_insert_mappings(Card, [TWICE]),
    ],
)
def test_an_attribute_that_sets_the_key(cards: Router, write: Any, guard: bool) -> None:
    """Where the key of a row in bulk is given in two ways, nobody says which of them counts."""
    before = others(cards)
    with cards.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=guard):
        with pytest.raises(RoutingError, match="R202"):
            write(session)
        session.rollback()
        session.add(Card(id=98, whose=Whose(MINE, 98)))
        session.commit()
        assert session.get_one(Card, 98).tenant_id == MINE
        session.add(Card(id=99, whose=Whose(OTHER, 99)))
        if guard:
            with pytest.raises(RoutingError, match="R215"):
                session.commit()
    assert others(cards) == before


@pytest.mark.skipif(not hasattr(hybrid_property, "bulk_dml"), reason="new in SQLAlchemy 2.1")
def test_a_hybrid_that_sets_the_key(cards: Router) -> None:
    """What a hybrid attribute makes of a row in bulk is not known."""
    row = {"id": 99, "tenant_id": MINE, "code": 9, "owner": OTHER}
    with cards.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        for write in (
            lambda: session.execute(insert(Owned), [row]),
            lambda: session.bulk_insert_mappings(Owned, [row]),  # type: ignore[arg-type]
        ):
            with pytest.raises(RoutingError, match="R202"):
                write()
        session.execute(insert(Owned), [{"id": 99, "tenant_id": MINE, "code": 9}])
        session.commit()


def test_upserts_of_what_an_index_computes(cards: Router) -> None:
    """Rows of two tenants may agree on that: the other's would be updated."""
    before = others(cards)
    row = {"tenant_id": MINE, "number": 2, "text": "p"}
    with cards.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=True):
        with pytest.raises(CrossShardError, match="R305"):
            session.execute(upsert(Place).values(row).on_conflict_do_update(set_={"text": "x"}))
        session.execute(upsert(Seat).values(row).on_conflict_do_update(set_={"text": "x"}))
        session.commit()
        assert session.scalars(select(Seat.text)).all() == ["x"]
    assert others(cards) == before


@pytest.mark.parametrize("guard", [True, False])
def test_rows_in_bulk_that_are_named_otherwise(cards: Router, guard: bool) -> None:
    """A key beside what names a row does not say that the row has it."""
    before = others(cards)
    rows: list[dict[str, Any]] = [{"tenant_id": MINE, "text": "p"}]
    with cards.sessionmaker()() as session, session.partition(MINE, keyspace="shop", guard=guard):
        for write in (
            lambda: session.bulk_update_mappings(Worded, rows),  # type: ignore[arg-type]
            lambda: session.execute(update(Worded), rows),
        ):
            with pytest.raises((CrossShardError, RoutingError), match=r"R305|R215"):
                write()
            session.rollback()
    assert others(cards) == before
