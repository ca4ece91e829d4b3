"""Plans: what would happen to a statement, and nothing of it does."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select, text

from router import CrossShardError, Router
from router.route.target import Tier
from tests.session.conftest import watch
from tests.session.shop import Account, Country, Customer, Note, Order


@pytest.mark.parametrize(
    ("statement", "tier", "shards"),
    [
        (select(Customer).where(Customer.id == 1), Tier.ONE, ["shop/s1"]),
        (select(Account), Tier.ONE, ["main"]),
        (select(Customer), Tier.CONCATENATED, ["shop/s0", "shop/s1", "shop/s2"]),
        (select(Customer).order_by(Customer.id), Tier.MERGED, ["shop/s0", "shop/s1", "shop/s2"]),
        (select(func.count(Order.total)), Tier.MERGED, ["shop/s0", "shop/s1", "shop/s2"]),
        (
            select(Customer).join(Account, Account.id == Customer.id),
            Tier.GATHERED,
            ["shop/s0", "shop/s1", "shop/s2", "main"],
        ),
        (
            insert(Country).values(id=1, name="x"),
            Tier.COPIES,
            ["d0", "d1", "d2"],
        ),
    ],
    ids=str,
)
def test_tiers(lite: Router, statement: object, tier: Tier, shards: list[str]) -> None:
    """The tier, the shards, and what each is sent; nothing is executed."""
    sent = watch(lite)
    plan = lite.explain(statement)
    assert plan.tier is tier
    assert list(plan.shards) == shards
    assert {one.where for one in plan.statements} >= set(shards)
    assert plan.reasons
    assert plan.refusal is None
    assert sent.sent == []


def test_each_shard_gets_its_own_keys(lite: Router) -> None:
    """An IN list is divided, and the plan shows how."""
    plan = lite.explain(select(Customer).where(Customer.id.in_([0, 1, 3, 4])))
    found = {one.where: sorted(one.params.values()) for one in plan.statements}
    assert found == {"shop/s0": [0, 3], "shop/s1": [1, 4]}


def test_parameters_of_the_execution(lite: Router) -> None:
    """Values are given as to `execute`."""
    from sqlalchemy import bindparam

    statement = select(Order).where(Order.customer_id == bindparam("key"))
    plan = lite.explain(statement, {"key": 5})
    assert plan.shards == ("shop/s2",)
    assert plan.statements[0].params == {"key": 5}


def test_refusals(lite: Router) -> None:
    """They are shown with their id and remedy, and are what executing would raise."""
    plan = lite.explain(text("SELECT 1"))
    assert plan.tier is Tier.REFUSED
    assert plan.refusal is not None
    assert plan.refusal.id == "R304"
    assert "bind_arguments" in str(plan)
    locking = select(Order).join(Note, Note.id == Order.number).with_for_update()
    refusal = lite.explain(locking).refusal
    assert isinstance(refusal, CrossShardError)
    with lite.sessionmaker()() as session, pytest.raises(CrossShardError) as raised:
        session.execute(locking)
    assert raised.value.id == refusal.id


def test_as_text(lite: Router) -> None:
    """A tree with the tier first, and SQL and steps below."""
    tree = str(lite.explain(select(Order).order_by(Order.total.desc()).limit(2)))
    first, *lines = tree.splitlines()
    assert first.startswith("merged: ")
    assert sum("ORDER BY orders.total DESC" in line for line in lines) == 3
    assert any("merge: order by orders.total" in line for line in lines)
    assert any("at most 2 rows" in line for line in lines)
