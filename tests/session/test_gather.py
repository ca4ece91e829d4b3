"""Reads that are answered on copies, in one database: exact, bounded, and without a trace."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, inspect, literal_column, select, text
from sqlalchemy.orm import aliased, joinedload

from router import CrossShardError, Router
from tests.conftest import MakeDatabases
from tests.session.shop import Account, Country, Customer, Note, Order, open_router


@pytest.fixture
def full(shop: Router) -> Router:
    """Six customers with orders and notes, in one country; an account elsewhere."""
    with shop.sessionmaker().begin() as session:
        country = Country(name="DE")
        for key in range(6):
            orders = [Order(number=n, total=key + n) for n in range(2)]
            notes = [Note(id=key // 2, text=f"of {key}")]
            customer = Customer(id=key, name=f"c{key}", country=country, orders=orders, notes=notes)
            session.add(customer)
    with shop.sessionmaker().begin() as session:
        session.add_all([Account(id=1, name="a"), Account(id=4, name="b")])
    return shop


def temporary(router: Router) -> list[str]:
    """Return the temporary tables that connections of the pools still have."""
    queries = {
        "postgresql": "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'",
        "sqlite": "SELECT name FROM sqlite_temp_master",
    }
    found: list[str] = []
    for engine in router.engines.values():
        query = queries.get(engine.dialect.name)
        if query is not None:
            with engine.connect() as connection:
                found += connection.execute(text(query)).scalars()
        else:
            found += _shadowed(engine)
    return found


def _shadowed(engine: Any) -> list[str]:
    """Return the tables whose rows a pooled connection does not see: MariaDB lists none."""
    with engine.connect() as pooled, engine.connect() as other:
        quote = engine.dialect.identifier_preparer.quote
        names = [quote(name) for name in inspect(engine).get_table_names()]
        count = "SELECT count(*) FROM {}"
        return [
            name
            for name in names
            if pooled.scalar(text(count.format(name))) != other.scalar(text(count.format(name)))
        ]


def test_a_join_over_keyspaces(full: Router) -> None:
    """Rows of a shard meet rows of an unsharded database."""
    statement = select(Account.name, Customer.name).join(Customer, Customer.id == Account.id)
    with full.sessionmaker()() as session:
        assert sorted(map(tuple, session.execute(statement))) == [("a", "c1"), ("b", "c4")]
    assert temporary(full) == []


def test_percent_signs(full: Router) -> None:
    """Signs that mean something to drivers reach the conditions of the copying as they are."""
    with full.sessionmaker().begin() as session:
        session.get_one(Customer, 1).name = "50%"
        session.get_one(Customer, 4).name = "50%%"
    joined = select(Account.name).join(Customer, Customer.id == Account.id).order_by(Account.id)
    with full.sessionmaker()() as session:
        assert session.scalars(joined.where(Customer.name == "50%")).all() == ["a"]
        assert session.scalars(joined.where(Customer.name == "50%%")).all() == ["b"]
        assert session.scalars(joined.where(Customer.id % 3 == 1)).all() == ["a", "b"]


def test_a_join_of_other_columns(full: Router) -> None:
    """Rows of one shard meet those of another."""
    other = aliased(Order)
    statement = select(Order.customer_id, other.customer_id).join(other, other.total == Order.total)
    with full.sessionmaker()() as session:
        # Totals 0 and 6 are there once, 1 to 5 twice.
        assert len(session.execute(statement).all()) == 2 + 5 * 4


def test_objects(full: Router) -> None:
    """They are loaded with their relationships, and are the session's own."""
    lower = select(func.min(Order.total)).where(Order.number == 1).scalar_subquery()
    statement = select(Customer).where(Customer.id > lower).options(joinedload(Customer.country))
    with full.sessionmaker()() as session:
        mine = session.get_one(Customer, 3)
        found = session.scalars(statement.order_by(Customer.id)).all()
        assert [one.id for one in found] == [2, 3, 4, 5]
        assert found[1] is mine
        assert {one.country.name for one in found} == {"DE"}
        found[0].name = "changed"
        session.commit()
        assert session.scalar(select(Customer.name).where(Customer.id == 2)) == "changed"


def test_objects_that_share_a_primary_key(full: Router) -> None:
    """Each is the row of its own shard, in the order of the statement."""
    few = select(Order.customer_id).where(Order.total > 3).subquery()
    statement = select(Note, Note.text).join(few, few.c.customer_id != Note.customer_id)
    with full.sessionmaker()() as session:
        rows = session.execute(statement.distinct().order_by(Note.text.desc())).all()
        assert [text for _, text in rows] == [f"of {key}" for key in range(5, -1, -1)]
        assert [note.text for note, _ in rows] == [text for _, text in rows]
        assert len({id(note) for note, _ in rows}) == 6


def test_no_objects_that_share_a_primary_key(full: Router) -> None:
    """Where none can match, there are no places to copy from, but the statement runs."""
    few = select(Account.id).where(Account.name == "a").scalar_subquery()
    statement = select(Note).join(Note.customer).where(Customer.id == few)
    with full.sessionmaker()() as session:
        assert session.scalars(statement.where(Note.customer_id.in_([]))).all() == []
        notes = session.scalars(statement.where(Note.customer_id.in_([1, 2]))).all()
        assert [note.text for note in notes] == ["of 1"]


def test_uncommitted_rows_are_seen(full: Router) -> None:
    """Those of this session, flushed or not, and of no other."""
    statement = select(func.count()).select_from(Account).join(Customer, Customer.id == Account.id)
    with full.sessionmaker()() as session, full.sessionmaker()() as other:
        session.get_one(Account, 1).name = "changed"
        session.delete(session.get_one(Account, 4))
        assert session.scalar(statement) == 1
        assert other.scalar(statement) == 2
        session.rollback()
        assert session.scalar(statement) == 2
    assert temporary(full) == []


def test_too_many_rows(make_databases: MakeDatabases, dialect: str) -> None:
    """The bound is kept, tables are named with counts, and nothing is left behind."""
    with open_router(make_databases(dialect, 3), gather={"max_rows": 5}) as router:
        with router.sessionmaker().begin() as session:
            session.add_all(Customer(id=key, name="c") for key in range(6))
        with router.sessionmaker()() as session:
            other = aliased(Customer)
            statement = select(Customer.id).join(other, other.name == Customer.name)
            with pytest.raises(CrossShardError, match=r"R310 (.|\n)*customers: "):
                session.execute(statement)
            few = statement.where(Customer.id < 2, other.id < 3)
            assert len(session.execute(few).all()) == 6
        assert temporary(router) == []


def test_gathering_can_be_forbidden(make_databases: MakeDatabases) -> None:
    """With no rows allowed, the statement is refused with its own reason."""
    urls = make_databases("sqlite", 3)
    with open_router(urls, gather={"max_rows": 0}) as router, router.sessionmaker()() as session:
        with pytest.raises(CrossShardError, match="R302"):
            session.execute(select(Customer.id).join(Order, Order.total == Customer.id))
        with pytest.raises(CrossShardError, match="forbids"):
            session.execute(select(Customer.id).union(select(Order.total)))


def test_only_what_is_needed_is_copied(lite: Router) -> None:
    """Columns that the statement names, rows that its conditions let through."""
    other = aliased(Order)
    statement = select(Order.number).join(other, other.total == Order.number)
    statement = statement.where(Order.number > 3, other.total < 9)
    plan = lite.explain(statement)
    (copy, *_) = [one.sql for one in plan.statements if "orders" in one.sql]
    assert "version" not in copy
    assert "number > " in copy
    assert "total < " in copy
    assert " OR " in copy


def test_a_reference_table_is_not_copied(lite: Router) -> None:
    """Every shard has its rows."""
    statement = select(Country.name).join(Customer, Customer.name == Country.name)
    plan = lite.explain(statement.join(Order, Order.total == Customer.id))
    assert "read countries in place" in plan.steps
    assert not any("FROM countries" in one.sql for one in plan.statements[:-1])


def test_the_connection_is_not_the_sessions_own(full: Router) -> None:
    """A session that gathered can still commit to several databases."""
    statement = select(Account.name).join(Customer, Customer.id == Account.id)
    with full.sessionmaker()() as session:
        assert len(session.execute(statement).all()) == 2
        session.add(Account(id=9, name="c"))
        session.add(Customer(id=9, name="c9"))
        session.commit()
        assert session.get(Customer, 9) is not None


def test_a_failing_statement_leaves_nothing(full: Router) -> None:
    """Neither temporary tables nor a broken pool."""
    other = aliased(Order)
    statement = select(literal_column("no_such_column")).select_from(Order)
    statement = statement.join(other, other.total == Order.number)
    with full.sessionmaker()() as session:
        with pytest.raises(Exception, match="no_such_column"):
            session.execute(statement)
        session.rollback()
        assert len(session.scalars(select(Order)).all()) == 12
    assert temporary(full) == []


def test_rows_are_not_locked_on_copies(lite: Router) -> None:
    """FOR UPDATE on a copy would lock nothing."""
    statement = select(Order).join(Note, Note.id == Order.number).with_for_update()
    with lite.sessionmaker()() as session, pytest.raises(CrossShardError, match="locked"):
        session.execute(statement)


def test_only_the_first_rows_are_copied(make_databases: MakeDatabases) -> None:
    """By the order of the database itself, which no merge outside of it knows."""
    with open_router(make_databases("mariadb", 3), gather={"max_rows": 4}) as router:
        names = ["b", "C", "a", "É", "e", "F"]
        with router.sessionmaker().begin() as session:
            session.add_all(Customer(id=key, name=name) for key, name in enumerate(names))
        statement = select(Customer.name).where(Customer.id < 6).order_by(Customer.name)
        with router.sessionmaker()() as session:
            assert session.scalars(statement.limit(1).offset(1)).all() == ["b"]
            with pytest.raises(CrossShardError, match="R310"):
                session.scalars(statement)


def test_a_star_is_every_column(full: Router) -> None:
    """The copies have all columns then, in their order."""
    other = aliased(Account)
    joined = select(literal_column("*")).select_from(Account)
    joined = joined.join(Customer, Customer.id == Account.id).join(other, other.id == Account.id)
    with full.sessionmaker()() as session:
        rows = session.execute(joined).all()
        assert len(rows) == 2
        assert len(rows[0]) == 2 + len(Customer.__table__.columns) + 2
