"""Averages are divided as the database divides them."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from router.rewrite.arithmetic import add, mysql_average, postgresql_average
from tests.conftest import MakeDatabases

ROUNDS = 1500


def numbers(generator: random.Random, places: int) -> list[Decimal]:
    """Return some numbers with as many places, small or large."""
    largest = 10 ** generator.randrange(1, 17)
    count = generator.choice([1, 2, 3, 7, 11, 30])
    return [Decimal(generator.randrange(-largest, largest)).scaleb(-places) for _ in range(count)]


def total(found: list[Decimal]) -> Decimal:
    """Return the exact sum."""
    result = Decimal(0)
    for one in found:
        result = add(result, one)
    return result


def test_postgresql_divides_alike(make_databases: MakeDatabases, postgres: str) -> None:
    """Every average of random numbers has the value and the digits of PostgreSQL's own."""
    engine = create_engine(make_databases("postgresql", 1)[0], poolclass=NullPool)
    generator = random.Random(11)
    with engine.connect() as connection:
        for _ in range(ROUNDS):
            found = numbers(generator, generator.choice([0, 0, 1, 2, 9, 20]))
            query = text("SELECT avg(x) FROM unnest(CAST(:found AS numeric[])) AS x")
            expected = connection.scalar(query, {"found": found})
            got = postgresql_average(total(found), len(found))
            assert got.as_tuple() == expected.as_tuple(), found


@pytest.mark.parametrize("places", [0, 1, 2, 4, 5, 6, 9, 14])
def test_mariadb_divides_alike(make_databases: MakeDatabases, mariadb: str, places: int) -> None:
    """Every average of random numbers has the value and the digits of MariaDB's own."""
    engine = create_engine(make_databases("mariadb", 1)[0], poolclass=NullPool)
    generator = random.Random(places)
    with engine.connect() as connection:
        for _ in range(ROUNDS // 5):
            found = numbers(generator, places)
            one = f"SELECT CAST('%s' AS DECIMAL(38, {places})) AS x"
            rows = " UNION ALL ".join(one % format(number, "f") for number in found)
            query = text(f"SELECT AVG(x), SUM(x) FROM ({rows}) AS t")
            expected, summed = connection.execute(query).one()
            got = mysql_average(total(found), len(found), expected)
            assert (repr(got), total(found)) == (repr(expected), summed), found
