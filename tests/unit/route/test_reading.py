"""Shapes are remembered; values, lists and names of one execution never reach another."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import bindparam, lambda_stmt, select, tuple_, update
from sqlalchemy.sql.elements import BindParameter

from router.errors import RoutingError
from router.route.circumstances import Circumstances
from router.route.target import Target
from tests.plans.cases import planner
from tests.plans.models import Customer, Event, Place, Stock

PLAIN = Circumstances()


def target(statement: Any, params: Any = None) -> Target:
    """Return where a statement goes, the short way and the long one, and the short one again."""
    ways = (planner().in_short, planner().target, planner().in_short)
    found, *others = (way(statement, params, PLAIN)[0] for way in ways)
    assert others == [found, found]
    return found


def home(key: int) -> list[str | None]:
    """Return the shard of a customer."""
    return shards(target(select(Customer.id).where(Customer.id == key)))


def shards(found: Target) -> list[str | None]:
    """Return the shards of a target."""
    return [one.shard for one in found.destinations]


@pytest.mark.parametrize("key", range(12))
def test_values(key: int) -> None:
    """One shape, many values: each goes to its own shard."""
    assert shards(target(select(Customer).where(Customer.id == key))) == home(key)
    named = select(Customer).where(Customer.id == bindparam("k"))
    assert shards(target(named, {"k": key})) == home(key)
    assert shards(target(named.params(k=key))) == home(key)


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_values_that_only_look_alike(value: Any) -> None:
    """What is known of a key is not known of what equals it, or is written like it."""
    named = select(Customer).where(Customer.id == bindparam("k"))
    assert shards(target(named, {"k": 1})) == home(1)
    for way in (planner().in_short, planner().target):
        with pytest.raises(RoutingError, match="R204"):
            way(named, {"k": value}, PLAIN)
    assert shards(target(named, {"k": Decimal(1)})) == home(1)


def test_two_values_of_one_name() -> None:
    """What is known of a key is not known where it has another value, too, or may get one."""

    def twice(other: int) -> Any:
        own = Customer.id == bindparam("k", 1)
        return select(Customer).where(own, Customer.score > bindparam("k", other))

    assert shards(target(twice(1))) == home(1)
    changing = select(Customer).where(Customer.id == bindparam("k", 1, callable_=lambda: 2))
    for statement in (twice(2), changing):
        for way in (planner().in_short, planner().target):
            with pytest.raises(RoutingError, match="R204"):
                way(statement, None, PLAIN)


def test_a_value_by_the_name_of_another() -> None:
    """What is known of a key is not known of a value that may take its place."""
    assert shards(target(select(Customer).where(Customer.id == 1))) == home(1)
    with pytest.raises(RoutingError, match="R204"):
        target(select(Customer).where(Customer.id == 1), {"id_1": 2})
    named = select(Customer).where(Customer.id == bindparam("k", 1))
    assert shards(target(named, {"k": 2, "other": 1})) == home(2)
    assert shards(target(named, [{"k": 2}])) == home(2)
    assert shards(target(named, {})) == home(1)


def test_the_same_statement_with_other_parameters() -> None:
    """What an execution was given is forgotten with it."""
    named = select(Customer).where(Customer.id == bindparam("k", 3))
    assert shards(target(named, {"k": 7})) == home(7)
    assert shards(target(named)) == home(3)
    assert shards(target(named.params(k=2))) == home(2)
    assert shards(target(named)) == home(3)


def test_lists_of_other_lengths() -> None:
    """Each execution is narrowed to its own keys."""
    for keys in ([7], [1, 2], [], [1, 2, 3, 4, 5], [2]):
        found = target(select(Customer).where(Customer.id.in_(keys)))
        parts = found.narrowing.parts if found.narrowing is not None else {}
        assert sorted(key for part in parts.values() for key in part) in (sorted(keys), [])
        assert {shard for key in keys for shard in home(key)} <= {*shards(found), *home(0)}


def test_null_and_values() -> None:
    """NULL is a shape of its own, as a parameter it is not."""
    assert shards(target(select(Place).where(Place.country == None))) == ["geo/us"]  # noqa: E711
    assert shards(target(select(Place).where(Place.country == "DE"))) == ["geo/eu"]
    named = select(Place).where(Place.country == bindparam("c"))
    assert target(named, {"c": None}).reasons == ("no row can match",)
    assert shards(target(named, {"c": "US"})) == ["geo/us"]


def test_lambda_statements() -> None:
    """Closure variables are read in each call."""

    def statement(key: int) -> Any:
        return lambda_stmt(lambda: select(Customer).where(Customer.id == key))

    for key in (1, 2, 7, 1):
        assert shards(target(statement(key))) == home(key)


def test_updates_with_other_names() -> None:
    """An UPDATE that sets other columns is another shape."""
    statement = update(Customer.__table__).where(Customer.__table__.c.id == 7)
    assert shards(target(statement, {"name": "x"})) == home(7)
    refusal = target(statement, {"id": 8}).refusal
    assert refusal is not None
    assert refusal.id == "R203"
    assert shards(target(statement, {"name": "x"})) == home(7)


def test_narrowed_parameters_are_found_by_place() -> None:
    """The name of an anonymous parameter is that of the statement at hand."""
    for keys in ([1, 2], [3, 4]):
        statement = select(Customer).where(Customer.score > 1, Customer.id.in_(keys))
        narrowing = target(statement).narrowing
        assert narrowing is not None
        bind: BindParameter[Any] = statement._generate_cache_key().bindparams[narrowing.index]
        assert bind.value == keys


def test_many_keys() -> None:
    """Lists of thousands of keys, of one column or of two, are divided without loss."""
    keys = list(range(5_000))
    narrowing = target(select(Customer).where(Customer.id.in_(keys))).narrowing
    assert narrowing is not None
    assert sorted(key for part in narrowing.parts.values() for key in part) == keys
    pairs = [("eu", key) for key in keys]
    statement = select(Stock).where(tuple_(Stock.region, Stock.depot_id).in_(pairs))
    narrowing = target(statement).narrowing
    assert narrowing is not None
    assert sorted(pair for part in narrowing.parts.values() for pair in part) == pairs


def test_wrong_keys_name_the_place() -> None:
    """A wrong key says where the map gives the table its key."""
    with pytest.raises(RoutingError, match="expected a date") as caught:
        target(select(Event).where(Event.day == 5))
    assert "history" in caught.value.where
