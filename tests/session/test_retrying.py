"""Transactions that are done again after a deadlock, and those that are not."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from router import Router, retry
from tests.session.shop import Customer


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_a_deadlock_in_one_database_is_retried(shop: Router, dialect: str) -> None:
    """Two threads lock the same rows in different orders; both end up written."""
    make = shop.sessionmaker()
    with make.begin() as session:
        session.add_all(Customer(id=key, name="") for key in (2, 4))
    meet = threading.Barrier(2, timeout=20)
    attempts: list[int] = []

    def run(first: int, second: int) -> None:
        def work(session: Session) -> None:
            again = first in attempts
            attempts.append(first)
            for key in (first, second):
                written = update(Customer).where(Customer.id == key)
                session.execute(written.values(name=Customer.name + str(first)))
                if key == first and not again and attempts.count(first) == 1:
                    meet.wait()

        retry(make, work, attempts=5)

    threads = [threading.Thread(target=run, args=pair) for pair in ((2, 4), (4, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with make() as session:
        names = session.scalars(select(Customer.name)).all()
    assert [sorted(name) for name in names] == [["2", "4"]] * 2
    assert len(attempts) >= 3


def test_other_errors_are_raised_at_once(lite: Router) -> None:
    """Nothing is gained by doing them again."""
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.execute(insert(Customer).values(id=1, name="c"))
        session.execute(insert(Customer).values(id=1, name="d"))

    with pytest.raises(IntegrityError):
        retry(lite.sessionmaker(), work)
    assert attempts == [1]
    with lite.sessionmaker()() as session:
        assert session.scalars(select(Customer)).all() == []


def test_the_last_error_is_raised(lite: Router) -> None:
    """After as many attempts as were allowed."""
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        raise DBAPIError("UPDATE", {}, Exception("database is locked"))

    with pytest.raises(DBAPIError):
        retry(lite.sessionmaker(), work, attempts=4, pause=0.001)
    assert len(attempts) == 4
