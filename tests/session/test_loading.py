"""Getting, refreshing and relationships: each on the right shard."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import NoResultFound, UnboundExecutionError
from sqlalchemy.orm import aliased, joinedload, selectinload, subqueryload

from router import CrossShardError, Router, RoutingError, on_shard
from tests.session.conftest import watch
from tests.session.shop import Account, Country, Customer, Note, Order


@pytest.fixture
def full(shop: Router) -> Router:
    """A shop with four customers."""
    with shop.sessionmaker().begin() as session:
        country = Country(name="DE")
        for key in range(4):
            orders = [Order(number=n, total=n) for n in range(2)]
            notes = [Note(id=key // 2, text=f"of {key}")]
            customer = Customer(id=key, name=f"c{key}", country=country, orders=orders, notes=notes)
            session.add(customer)
        session.add(Account(id=1, name="a"))
    return shop


def test_get_asks_one_shard(full: Router) -> None:
    """A primary key that names its shard is looked for there only, and once."""
    with full.sessionmaker()() as session:
        sent = watch(full)
        customer = session.get(Customer, 3)
        assert customer is session.get(Customer, 3)
        assert sent.count("SELECT") == {"d1": 1}
        assert session.get(Customer, 99) is None
        with pytest.raises(NoResultFound):
            session.get_one(Customer, 99)


def test_get_that_could_mean_two_rows(full: Router) -> None:
    """Rows of one primary key on two shards are an error, also if one is loaded."""
    with full.sessionmaker()() as session:
        with pytest.raises(CrossShardError, match="R306"):
            session.get(Note, 1)
        loaded = session.get(Note, 1, bind_arguments={"shard": "shop/s0"})
        assert loaded is not None
        assert loaded.text == "of 2"
        assert loaded is session.get(Note, 1, identity_token="shop/s0")
        with pytest.raises(CrossShardError, match="R306"):
            session.get(Note, 1)
        with session.partition(3, keyspace="shop"):
            assert session.get_one(Note, 1).text == "of 3"


def test_a_reference_row_is_one_object(full: Router) -> None:
    """Whichever shard it was loaded from."""
    with full.sessionmaker()() as session:
        statement = select(Customer).options(joinedload(Customer.country))
        customers = session.scalars(statement).all()
        with_notes = joinedload(Note.customer).joinedload(Customer.country)
        notes = session.scalars(select(Note).options(with_notes)).all()
        countries = {customer.country for customer in customers}
        assert len(countries) == 1
        assert countries == {note.customer.country for note in notes}


@pytest.mark.parametrize("load", [joinedload, selectinload, subqueryload])
def test_eager_loads(full: Router, load: object) -> None:
    """Every customer has its own orders, whatever the strategy; none is loaded lazily."""
    with full.sessionmaker()() as session:
        statement = select(Customer).options(load(Customer.orders))  # type: ignore[operator]
        customers = session.scalars(statement).unique().all()
        sent = watch(full)
        assert sorted((c.id, [o.customer_id for o in c.orders]) for c in customers) == [
            (key, [key, key]) for key in range(4)
        ]
        assert sent.count("SELECT") == {}


def test_a_joined_load_within_another_load(full: Router) -> None:
    """Its rows are several for one object, also where they come from several shards."""
    within = joinedload(Order.customer).joinedload(Customer.notes)
    statement = select(Customer).options(selectinload(Customer.orders).options(within))
    with full.sessionmaker()() as session:
        customers = session.scalars(statement.order_by(Customer.id)).all()
        assert [[o.number for o in c.orders] for c in customers] == [[0, 1]] * 4
        assert [[n.text for n in c.notes] for c in customers] == [[f"of {key}"] for key in range(4)]


def test_a_load_by_a_derived_table_with_keys_of_several_shards(full: Router) -> None:
    """The keys stand in a subquery that the loader's statement names in several places."""
    statement = select(Customer).where(Customer.id.in_([0, 1, 3])).order_by(Customer.id)
    computed = (Order.total + 1).label("computed")
    with full.sessionmaker()() as session:
        found = session.scalars(statement.options(subqueryload(Customer.orders))).all()
        assert [[o.number for o in c.orders] for c in found] == [[0, 1]] * 3
        source = aliased(
            Order, select(Order, computed).where(Order.customer_id.in_([0, 1])).subquery()
        )
        joined = select(Customer.id, source.number).outerjoin(
            source, source.customer_id == Customer.id
        )
        rows = session.execute(joined.where(Customer.id.in_([0, 1])).order_by(Customer.id)).all()
        assert [row.id for row in rows] == [0, 0, 1, 1]


def test_lazy_loads_ask_one_shard(full: Router) -> None:
    """By the key in the relationship's join."""
    with full.sessionmaker()() as session:
        customer = session.get_one(Customer, 2)
        sent = watch(full)
        assert [order.customer_id for order in customer.orders] == [2, 2]
        assert customer.orders[0].customer is customer
        assert [note.text for note in customer.notes] == ["of 2"]
        assert sent.count("SELECT") == {"d0": 2}


def test_refresh_and_expiry_use_the_own_shard(full: Router) -> None:
    """Also for rows whose primary key exists on both shards."""
    with full.sessionmaker()() as session:
        notes = session.scalars(select(Note).where(Note.id == 1)).all()
        session.expire_all()
        assert sorted(note.text for note in notes) == ["of 2", "of 3"]
        for note in notes:
            session.refresh(note)
        assert sorted(note.text for note in notes) == ["of 2", "of 3"]


def test_on_shard(full: Router) -> None:
    """The option limits a statement and the lazy loads of what it returns."""
    with full.sessionmaker()() as session:
        statement = select(Customer).options(on_shard("shop/s1"))
        customers = session.scalars(statement).all()
        assert sorted(customer.id for customer in customers) == [1, 3]
        sent = watch(full)
        assert [len(customer.orders) for customer in customers] == [2, 2]
        assert set(sent.count("SELECT")) == {"d1"}


def test_fan_out_and_lists(full: Router) -> None:
    """Plain statements reach the shards they need."""
    with full.sessionmaker()() as session:
        assert len(session.scalars(select(Order)).all()) == 8
        sent = watch(full)
        keys = session.scalars(select(Customer.id).where(Customer.id.in_([0, 2]))).all()
        assert sorted(keys) == [0, 2]
        assert sent.count("SELECT") == {"d0": 1}
        other = aliased(Order)
        joined = select(Customer.id, other.number).join(other, other.customer_id == Customer.id)
        assert len(session.execute(joined).all()) == 8


def test_refused(lite: Router) -> None:
    """What cannot be exact over several shards is refused, and nothing is sent."""
    locking = select(Order).join(Note, Note.id == Order.number).with_for_update()
    sent = watch(lite)
    with lite.sessionmaker()() as session, pytest.raises(CrossShardError):
        session.execute(locking)
    assert sent.sent == []


def test_one_shard_answers_anything(full: Router) -> None:
    """A statement on one shard runs unchanged."""
    with full.sessionmaker()() as session:
        mine = select(func.sum(Order.total)).where(Order.customer_id == 3)
        assert session.scalar(mine) == 1
        ordered = select(Order).where(Order.customer_id == 3).order_by(Order.number.desc()).limit(1)
        assert session.scalars(ordered).one().number == 1


def test_text_needs_a_place(full: Router) -> None:
    """Text is executed where the bind arguments say, and nowhere otherwise."""
    count = text("SELECT count(*) FROM customers")
    with full.sessionmaker()() as session:
        with pytest.raises(UnboundExecutionError, match="R304"):
            session.execute(count)
        for where in ({"shard": "shop/s0"}, {"keyspace": "shop", "shard_key": 2}):
            assert session.scalar(count, bind_arguments=where) == 2
        accounts = text("SELECT count(*) FROM accounts")
        for where in ({"keyspace": "accounts"}, {"mapper": Account}):
            assert session.scalar(accounts, bind_arguments=where) == 1
        with pytest.raises(RoutingError, match="R206"):
            session.execute(count, bind_arguments={"shard": "shop/s9"})


def test_connection(full: Router) -> None:
    """The transaction's own connection, by mapper or by key."""
    with full.sessionmaker()() as session:
        name = text("SELECT name FROM customers WHERE id = 3")
        by_key = session.connection(bind_arguments={"keyspace": "shop", "shard_key": 3})
        assert by_key.scalar(name) == "c3"
        assert by_key is session.connection(bind_arguments={"shard": "shop/s1"})
        account = session.connection(bind_arguments={"mapper": Account})
        assert account.scalar(text("SELECT name FROM accounts")) == "a"
        with pytest.raises(RoutingError, match="R202"):
            session.connection(bind_arguments={"mapper": Customer})


def test_wrong_keys_are_errors(lite: Router) -> None:
    """A key of another type never means another shard."""
    with lite.sessionmaker()() as session:
        for key in ("7", 7.5, b"7"):
            with pytest.raises(RoutingError, match="R204"):
                session.execute(select(Order).where(Order.customer_id == key))


def test_unique_objects_that_nobody_keeps(lite: Router) -> None:
    """`unique()` tells objects apart by their address; no two of a result may share one."""
    with lite.sessionmaker().begin() as session:
        session.add_all(Customer(id=key, name=f"c{key}") for key in range(300))
    with lite.sessionmaker()() as session:
        for statement in (select(Customer), select(Customer).order_by(Customer.id)):
            names = [one.name for one in session.scalars(statement).unique()]
            assert sorted(names) == sorted(f"c{key}" for key in range(300))
            session.expunge_all()


def test_aliases_have_no_name(full: Router) -> None:
    """Rows of an alias and a column keep both, over several shards, too."""
    other = aliased(Customer)
    with full.sessionmaker()() as session:
        result = session.execute(select(other, other.name))
        assert list(result.keys()) == ["name"]
        assert sorted(name for _, name in result) == ["c0", "c1", "c2", "c3"]
        assert len(session.execute(select(other, other.name)).all()[0]) == 2
