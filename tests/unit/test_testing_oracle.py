"""The oracle finds every kind of wrong answer, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    Select,
    String,
    cast,
    create_engine,
    func,
    literal,
    select,
    text,
    union,
    union_all,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Query,
    Session,
    joinedload,
    mapped_column,
    relationship,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from router import Router
from router.testing import Oracle, Outcome
from router.testing.answers import Answer, Judge
from router.testing.frozen import Freezer


class Base(DeclarativeBase):
    """Base of the models."""


class Parent(Base):
    """Has ties: several rows have the same `group`."""

    __tablename__ = "parents"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    group: Mapped[int | None]
    name: Mapped[str] = mapped_column(String(10))
    children: Mapped[list[Child]] = relationship(
        primaryjoin="Parent.id == foreign(Child.parent_id)", viewonly=True
    )


class Child(Base):
    """Its ids are unique only on each shard."""

    __tablename__ = "children"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int]


class Lying(Session):
    """A session that answers another statement than it was asked, once told so."""

    instead: Any = None

    def execute(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """Execute the other statement."""
        return super().execute(self.instead if self.instead is not None else statement, *args, **kw)


class Liar:
    """What an oracle needs of a router, over the very database that it compares with."""

    def __init__(self, engine: Engine) -> None:
        self.sessionmaker = lambda: sessionmaker(engine, class_=Lying)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Oracle]:
    """An oracle that asks one database twice."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with sessionmaker(engine).begin() as session:
        groups = {1: 1, 2: 1, 3: 2, 4: None, 5: 2, 6: 3}
        session.add_all(Parent(id=n, group=g, name=f"n{n}") for n, g in groups.items())
        session.add_all(Child(id=n, parent_id=n % 3) for n in range(1, 6))
    yield Oracle(Liar(engine), engine)
    engine.dispose()


def outcome(oracle: Oracle, asked: Any, answered: Any) -> Outcome:
    """Return what the oracle says of the answer to another statement."""
    patch = pytest.MonkeyPatch()
    with patch.context() as lying:
        lying.setattr(Lying, "instead", answered)
        return oracle.compare(asked).outcome


IDS, GROUPS = select(Parent.id), select(Parent.group)
BY_GROUP = IDS.order_by(Parent.group)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (IDS, IDS.where(Parent.id > 1)),
        (IDS, union_all(IDS, select(literal(7).label("id")))),
        (GROUPS, GROUPS.where(Parent.id != 1).union_all(select(literal(2).label("group")))),
        (IDS, select(Parent.id.label("other"))),
        (IDS, select((Parent.id + 0.0).label("id"))),
        (IDS.order_by(Parent.id), IDS.order_by(Parent.id.desc())),
        (BY_GROUP, IDS.order_by(Parent.group.desc())),
        (BY_GROUP, IDS.order_by(Parent.group.nulls_last())),
        (IDS.order_by(Parent.id).limit(2), IDS.order_by(Parent.id).limit(3)),
        (IDS.order_by(Parent.id).limit(2), IDS.order_by(Parent.id).limit(2).offset(1)),
        (BY_GROUP.limit(3), IDS.where(Parent.id != 1).order_by(Parent.group).limit(3)),
        (BY_GROUP.limit(2), IDS.where(Parent.id.in_([4, 3]))),
        (IDS.limit(2), select(literal(8).label("id")).union_all(select(literal(9)))),
        (IDS.limit(2), select(literal(1).label("id")).union_all(select(literal(1)))),
        (GROUPS.distinct(), GROUPS),
        (select(func.count(Parent.id)), select((func.count(Parent.id) + 1).label("count_1"))),
        (select(Parent).order_by(Parent.id), select(Parent).order_by(Parent.name.desc())),
        (union(IDS, IDS).order_by("id"), union(IDS, IDS).order_by(text("id DESC"))),
        (select(Parent), select(Parent).options(joinedload(Parent.children))),
    ],
)
def test_wrong_answers_are_found(oracle: Oracle, asked: Any, answered: Any) -> None:
    """Missing, foreign, doubled, misplaced and miscast rows are wrong."""
    assert outcome(oracle, asked, answered) is Outcome.WRONG


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (IDS, IDS.order_by(Parent.id.desc())),
        (BY_GROUP, IDS.order_by(Parent.group, Parent.id.desc())),
        (BY_GROUP.limit(2), IDS.order_by(Parent.group, Parent.id.desc()).limit(2)),
        (BY_GROUP.limit(2).offset(1), IDS.where(Parent.id.in_([1, 2])).order_by(Parent.id.desc())),
        (IDS.limit(2), IDS.where(Parent.id > 3).limit(2)),
        (GROUPS.distinct(), GROUPS.distinct().order_by(Parent.group.desc())),
        (select(Parent), select(Parent).order_by(Parent.id.desc())),
    ],
)
def test_what_one_database_may_choose_is_right(oracle: Oracle, asked: Any, answered: Any) -> None:
    """Any order of ties or of unsorted rows, and any rows of an unsorted limit."""
    assert outcome(oracle, asked, answered) is Outcome.EQUAL


def test_refusals_and_errors_are_told_apart(oracle: Oracle) -> None:
    """What the one database rejects is invalid; what only the shards reject is an error."""
    invalid = select(text("no_such_column"))
    assert outcome(oracle, invalid, None) is Outcome.INVALID
    assert outcome(oracle, IDS, invalid) is Outcome.ERROR
    assert outcome(oracle, invalid, IDS) is Outcome.WRONG
    unreadable = select(Parent, cast(Parent.group, String(10)))
    assert outcome(oracle, unreadable, select(Parent, Parent.name)) is Outcome.INVALID


def test_assert_same_explains(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the statement, its parameters and both answers."""
    oracle.assert_same(IDS)
    monkeypatch.setattr(Lying, "instead", IDS.where(Parent.id != 3))
    with pytest.raises(AssertionError) as raised:
        oracle.assert_same(IDS.where(Parent.id < 4))
    for part in ("5 rows instead of 3", "WHERE parents.id <", "'id_1': 4", "(3,)"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (1, Decimal(1)),
        (Decimal("1.0"), Decimal("1.00")),
        (0.0, -0.0),
        ("a", b"a"),
        (None, 0),
        ([1, 2], [2, 1]),
        ([1], (1,)),
        (datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),  # noqa: DTZ001
    ],
)
def test_values_that_python_takes_for_equal_differ(one: Any, other: Any) -> None:
    """Types, scales, signs and zones count."""
    assert Freezer().value(one) != Freezer().value(other)


def test_nan_is_itself() -> None:
    """One NaN is as good as another."""
    assert Freezer().value(float("nan")) == Freezer().value(float("nan"))
    assert Freezer().value(Decimal("NaN")) == Freezer().value(Decimal("NaN"))


def judged(statement: Select[Any], theirs: Any, ours: Any, known: list[Any]) -> bool:
    """Return whether `ours` is right where `theirs` is one of the answers."""
    freezer = Freezer()
    answers = [Answer(("x",), [freezer.row([value])], [value], ()) for value in (theirs, ours)]
    values = frozenset(map(freezer.value, known))
    judge = Judge(statement, ranked=lambda: None, known=values, text_key=str.casefold)
    return not judge.difference(*answers)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("Ada", "ADA"), (Decimal("1.0"), Decimal("1.00")), (0.0, -0.0)]
)
def test_equal_values_stand_for_each_other_only_in_groups(theirs: Any, ours: Any) -> None:
    """DISTINCT may show any of the values that are there; a plain SELECT may not."""
    both = [theirs, ours]
    assert judged(GROUPS.distinct(), theirs, ours, both)
    assert judged(select(func.max(Parent.name)), theirs, ours, both)
    assert judged(GROUPS.except_all(GROUPS), theirs, ours, both)
    assert not judged(GROUPS.union_all(GROUPS), theirs, ours, both)
    assert not judged(GROUPS.distinct(), theirs, ours, [theirs])
    assert not judged(GROUPS, theirs, ours, both)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("ADA", "Ada"), (Decimal("2.0"), Decimal("2.00")), (0.0, -0.0)]
)
def test_what_is_computed_of_such_values_may_differ_as_they_do(theirs: Any, ours: Any) -> None:
    """An expression of a chosen value is as arbitrary as that value; one of a sum is not."""
    largest = select(func.max(Parent.name).label("n")).subquery()
    assert judged(select(largest.c.n + largest.c.n), theirs, ours, [])
    assert judged(select(func.max(Parent.group) * 2), theirs, ours, [])
    assert judged(
        select(func.upper(Parent.name)).group_by(func.upper(Parent.name)), theirs, ours, []
    )
    assert not judged(select(func.max(Parent.group)), theirs, ours, [])
    assert not judged(select(func.sum(Parent.group) * 2), theirs, ours, [])


def test_pages_of_such_groups() -> None:
    """Also where rows are told by their place: a page, sorted by what was computed."""
    price = -Parent.group
    statement = select(price).group_by(price).order_by(price).limit(1)
    freezer = Freezer()

    def difference(theirs: Decimal, ours: Decimal) -> str:
        answers = [Answer(("x",), [freezer.row([one])], [one], ()) for one in (theirs, ours)]
        every = Answer(("x", "rank"), [freezer.row([theirs, 0])], [theirs], ())
        judge = Judge(statement, lambda: every, frozenset(), str.casefold)
        return judge.difference(*answers)

    assert not difference(Decimal("-2.50"), Decimal("-2.5"))
    assert difference(Decimal("-2.50"), Decimal("-2.6"))


# -- with a router ---------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path: Path) -> Iterator[Oracle]:
    """A router over two SQLite files, and one with everything."""
    databases = {name: {"url": f"sqlite:///{tmp_path}/{name}.db"} for name in ("d0", "d1")}
    shop = {
        "shards": {"s0": "d0", "s1": "d1"},
        "sharding": {"function": "modulo"},
        "tables": {"parents": "id", "children": "parent_id"},
    }
    shards = {
        "version": 1,
        "databases": databases,
        "keyspaces": {"shop": shop},
        "transactions": {"two_phase": False},
    }
    engine = create_engine(f"sqlite:///{tmp_path}/single.db")
    with Router.from_dict(shards, metadata=Base.metadata) as router:
        router.create_all()
        with router.sessionmaker().begin() as session:
            session.add_all(Parent(id=n, group=n % 2, name=f"n{n}") for n in range(4))
            session.add_all(Child(id=n // 2, parent_id=n) for n in range(4))
        yield Oracle(router, engine)
    engine.dispose()


def test_fill_copies_every_row(sharded: Oracle) -> None:
    """Rows of all shards arrive, with primary keys that only one shard knows as unique."""
    assert sharded.fill() == {"parents": 4, "children": 4}
    assert sharded.fill() == {"parents": 4, "children": 4}
    with sharded.engine.connect() as connection:
        ids = connection.scalars(select(Child.id).order_by(Child.id)).all()
    assert ids == [0, 0, 1, 1]


def test_compare_with_a_router(sharded: Oracle) -> None:
    """Statements, legacy queries and lazy loads are compared, also in one session."""
    sharded.fill()
    sharded.assert_same(select(Parent.id).where(Parent.id == 3))
    sharded.assert_same(select(Parent).where(Parent.id == 2), touch=["name"])
    with sharded.together():
        sharded.assert_same(select(Parent).where(Parent.name != "n1"))
        sharded.assert_same(Query([Parent]).filter(Parent.id == 1))
