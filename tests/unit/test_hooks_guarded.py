"""What guards lean on inside SQLAlchemy is where it was, and does what they need."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy import ForeignKey, and_, bindparam, exists, func, inspect, select, union
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    joinedload,
    mapped_column,
    outerjoin,
    relationship,
)

from router.hooks.guarded import GuardCriteria, joined_entities, optioned, restricted, shows
from router.hooks.statements import cache_key


class Base(DeclarativeBase):
    """Base of the models."""


class Parent(Base):
    """One side."""

    __tablename__ = "parents"

    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list[Child]] = relationship(back_populates="parent")


class Child(Base):
    """The other side."""

    __tablename__ = "children"

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))
    parent: Mapped[Parent] = relationship(back_populates="children")


def criterion(entity: Any, value: Any = None) -> Any:
    """Return what only the rows of key 7 have."""
    value = bindparam("guard", 7, unique=True) if value is None else value
    name = "id" if entity.mapper.class_ is Parent else "parent_id"
    return and_(getattr(entity.entity, name).__clause_element__() == value)


def options() -> list[GuardCriteria]:
    """Return the options of both classes."""
    found = []
    for model in (Parent, Child):
        value = bindparam("guard", 7, unique=True)
        found.append(GuardCriteria(inspect(model), partial(criterion, value=value)))
    return found


def sql(statement: Any) -> str:
    """Return a statement on one line."""
    return " ".join(str(statement).split())


def test_options_reach_aliases_and_eager_joins() -> None:
    """Each alias gets the criterion of its own columns, in ON where it is joined outwards."""
    child = aliased(Child)
    joined = select(Parent.id).outerjoin(child, child.parent_id == Parent.id)
    shown = sql(optioned(joined, options()))
    assert "ON children_1.parent_id = parents.id AND children_1.parent_id = " in shown
    assert "WHERE parents.id = " in shown
    eager = sql(optioned(select(Parent).options(joinedload(Parent.children)), options()))
    assert "ON parents.id = children_1.parent_id AND children_1.parent_id = " in eager


def test_options_are_cached_without_their_values() -> None:
    """Statements of two keys have one cache key; those with entities left out another."""
    keys = [cache_key(optioned(select(Parent), options()))[0] for _ in range(2)]
    assert keys[0] is not None
    assert keys[0] == keys[1]
    besides = frozenset([inspect(Child)])
    less = [one.without(besides) for one in options()]
    assert cache_key(optioned(select(Parent), less))[0] != keys[0]


def test_objects_do_not_keep_the_criteria() -> None:
    """What an object keeps for its later loads has no criterion."""
    one = options()[0]
    assert one.propagate_to_loaders
    kept = one._adapt_cached_option_to_uncached_option(None, None)
    assert not isinstance(kept, GuardCriteria)
    assert not kept.propagate_to_loaders


@pytest.mark.parametrize(
    ("statement", "times"),
    [
        (select(func.count(Child.id)), 1),
        (select(Parent.id).where(exists().where(Child.id == Parent.id)), 2),
        (select(exists().where(Child.id == 1)), 1),
        (union(select(Parent.id), select(func.max(Child.id))), 2),
        (select(Parent.id).where(Parent.id.in_(select(Child.id).where(Child.id > 1))), 2),
        (select(Parent.id, select(func.count(Child.id)).scalar_subquery()), 2),
        (select(Parent.__table__), 0),
    ],
)
def test_every_select_is_restricted(statement: Any, times: int) -> None:
    """What loader criteria pass over gets its own, once; tables that are no entities do not."""
    assert sql(restricted(statement, criterion)).count(":guard_") == times


def test_joins_made_beforehand() -> None:
    """An optional side is restricted in ON, the other in WHERE; a full join not at all."""
    statement = select(Parent.id).select_from(
        outerjoin(Parent, Child, Child.parent_id == Parent.id)
    )
    assert joined_entities(statement) == {inspect(Parent), inspect(Child)}
    shown = sql(restricted(statement, criterion))
    assert "ON children.parent_id = parents.id AND children.parent_id = :guard_1" in shown
    assert shown.endswith("WHERE parents.id = :guard_2")
    full = select(Parent.id).select_from(
        outerjoin(Parent, Child, Child.parent_id == Parent.id, full=True)
    )
    assert ":guard" not in sql(restricted(full, criterion))
    assert joined_entities(select(Parent).join(Parent.children)) == frozenset()


def test_aliases_of_subqueries() -> None:
    """A subquery either has the columns of the key or has no criterion."""
    columns = [Child.__table__.c.parent_id]
    bare, whole = (aliased(Child, select(one).subquery()) for one in (Child.id, Child))
    assert not shows(inspect(bare), columns)
    assert shows(inspect(whole), columns)
    assert shows(inspect(aliased(Child)), columns)
