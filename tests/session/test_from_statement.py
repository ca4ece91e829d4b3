"""Objects loaded from what a write returns: ``select(...).from_statement(insert(...))``."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, event, insert, select, update

from router import CrossShardError, Router
from tests.session.shop import Account, Customer, Note


def loaded(entity: Any, write: Any) -> Any:
    """Return the statement that loads what `write` returns."""
    return select(entity).from_statement(write.returning(entity))


def test_in_one_database(lite: Router) -> None:
    """Each kind of write of an unsharded table returns objects of the session."""
    with lite.sessionmaker()() as session:
        added = session.scalars(loaded(Account, insert(Account).values(id=1, name="a"))).one()
        assert session.get(Account, 1) is added
        changed = update(Account).where(Account.id == 1).values(name="b")
        again = loaded(Account, changed).execution_options(populate_existing=True)
        assert session.scalars(again).one() is added
        assert added.name == "b"
        assert session.scalars(loaded(Account, delete(Account))).one() is added
        session.commit()
        assert session.scalars(select(Account)).all() == []


def test_beside_a_handler(lite: Router) -> None:
    """Handlers of ``do_orm_execute`` change nothing about it."""
    with lite.sessionmaker()() as session:
        event.listen(session, "do_orm_execute", lambda state: None)
        added = session.scalars(loaded(Account, insert(Account).values(id=1, name="a"))).one()
        assert session.get(Account, 1) is added


def test_on_the_shard_of_a_key(lite: Router) -> None:
    """A write that names one key goes to that key's shard, and is committed there."""
    with lite.sessionmaker()() as session:
        for key in range(4):
            found = session.scalars(loaded(Customer, insert(Customer).values(id=key, name="c")))
            assert found.one().id == key
        session.commit()
        assert sorted(session.scalars(select(Customer.id))) == [0, 1, 2, 3]
    for key in range(4):
        with lite.engine_for("shop", key).connect() as connection:
            assert key in connection.scalars(select(Customer.id)).all()


def test_objects_keep_their_shard(lite: Router) -> None:
    """Objects with equal primary keys on two shards are two objects."""
    home = {key: str(lite.engine_for("shop", key).url) for key in range(9)}
    first, second = 0, next(key for key in home if home[key] != home[0])
    with lite.sessionmaker()() as session:
        session.add_all([Customer(id=first, name="c"), Customer(id=second, name="c")])
        session.flush()
        rows = [{"id": 1, "customer_id": key, "text": "n"} for key in (first, second)]
        notes = [session.scalars(loaded(Note, insert(Note).values(row))).one() for row in rows]
        assert notes[0] is not notes[1]
        assert [note.customer_id for note in notes] == [first, second]


def test_several_shards_are_refused(lite: Router) -> None:
    """Nothing is written where the write would reach more than one place."""
    with lite.sessionmaker()() as session:
        session.add_all(Customer(id=key, name="c") for key in range(6))
        session.commit()
        with pytest.raises(CrossShardError, match="R305"):
            session.scalars(loaded(Customer, update(Customer).values(name="d")))
        session.commit()
        assert set(session.scalars(select(Customer.name))) == {"c"}
