"""Statements on several shards, executed: each shard is sent its own keys, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, event, lambda_stmt, select, tuple_

from tests.property.worlds import Customer, Order, World, world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world of several shards."""
    for seed in range(100):
        directory: Path = tmp_path_factory.mktemp("world")
        with world(f"fanout {seed}", directory) as built:
            if len(built.router.shard_map.databases) == 4:
                yield built
                return


def sent(made: World, statement: Any, params: Any = None) -> tuple[Counter[Any], Counter[Any]]:
    """Return the rows of a statement, and the integers sent to the databases for it."""
    numbers: Counter[Any] = Counter()

    def note(connection: Any, cursor: Any, text: str, parameters: Any, *rest: Any) -> None:
        numbers.update(parameters)

    engines = list(made.router.engines.values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        with made.routed() as session:
            return Counter(map(tuple, session.execute(statement, params))), numbers
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def statements(keys: list[int]) -> list[tuple[Any, Any]]:
    """Return statements with a list of keys, each in another way, and their parameters."""
    named = Customer.id.in_(bindparam("keys", expanding=True))
    pairs = [(key, 0) for key in keys]
    return [
        (select(Customer.id).where(Customer.id.in_(keys)), None),
        (select(Customer.id).where(named), {"keys": keys}),
        (select(Customer.id).where(named), [{"keys": keys}]),
        (select(Customer.id).where(named).params(keys=keys), None),
        (lambda_stmt(lambda: select(Customer.id).where(Customer.id.in_(keys))), None),
        (select(Order.number).where(tuple_(Order.customer_id, Order.number).in_(pairs)), None),
    ]


@pytest.mark.parametrize("number", range(6))
def test_each_key_is_sent_once(made: World, number: int) -> None:
    """Every shard gets its part of the list; together they give what one database gives."""
    for keys in (list(range(20)), list(range(5, 15)), list(range(20))):
        statement, params = statements(keys)[number]
        rows, numbers = sent(made, statement, params)
        with made.plain() as session:
            assert rows == Counter(map(tuple, session.execute(statement, params)))
        # Tuples bring a zero with each key.
        del numbers[0]
        assert set(numbers.values()) == {1}
        assert set(numbers) <= set(keys)
