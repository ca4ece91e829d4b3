"""Every argument of a session, a sessionmaker or a scoped_session does what SQLAlchemy's does."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Query, Session, make_transient, with_loader_criteria

from router import CrossShardError, Router, RoutingSession
from tests.session.conftest import watch
from tests.session.shop import Customer, Order


@pytest.fixture
def full(lite: Router) -> Router:
    """Customers 0 to 5 over three shards, with an order each."""
    with lite.sessionmaker().begin() as session:
        session.add_all(
            Customer(id=key, name="c", orders=[Order(number=1, total=key)]) for key in range(6)
        )
    return lite


def _configured(router: Router, kw: dict[str, Any]) -> RoutingSession:
    make = router.sessionmaker()
    make.configure(**kw)
    return make()


MAKERS: dict[str, Callable[[Router, dict[str, Any]], RoutingSession]] = {
    "class": lambda router, kw: RoutingSession(router=router, **kw),
    "sessionmaker": lambda router, kw: router.sessionmaker(**kw)(),
    "call of a sessionmaker": lambda router, kw: router.sessionmaker()(**kw),
    "configure": _configured,
    "scoped_session": lambda router, kw: router.scoped_session(**kw)(),
    "call of a scoped_session": lambda router, kw: router.scoped_session()(**kw),
}
Make = Callable[..., RoutingSession]


@pytest.fixture(params=MAKERS)
def make(full: Router, request: pytest.FixtureRequest) -> Make:
    """Make a session with arguments, in every way there is."""
    maker = MAKERS[request.param]
    return lambda **kw: maker(full, kw)


class Names(Query[Any]):
    """A query of the application's own."""

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(name for (name,) in self.with_entities(Customer.name))


class Tenants(RoutingSession):
    """A session of the application's own."""

    def customers(self) -> int:
        """Return how many customers there are."""
        return len(self.scalars(select(Customer.id)).all())


# -- each argument ------------------------------------------------------------------------------


def test_expire_on_commit(make: Make, full: Router) -> None:
    """Without it objects of every shard are read after a commit without asking again."""
    for expire, asked in ((True, 6), (False, 0)):
        with make(expire_on_commit=expire) as session:
            customers = session.scalars(select(Customer)).all()
            customers[0].name = "new"
            session.commit()
            sent = watch(full)
            assert {customer.name for customer in customers} == {"new", "c"}
            assert sum(sent.count("SELECT").values()) == asked
            customers[0].name = "c"
            session.commit()


def test_autoflush(make: Make) -> None:
    """What is pending is seen by a read over all shards, or is not."""
    for flushes, seen in ((True, 8), (False, 6)):
        with make(autoflush=flushes) as session:
            session.add_all([Customer(id=10, name="n"), Customer(id=11, name="n")])
            assert len(session.scalars(select(Customer)).all()) == seen
            assert (session.get(Customer, 10) is not None) is flushes
            assert len(session.new) == (0 if flushes else 2)


def test_autobegin(make: Make) -> None:
    """A session that does not begin by itself does nothing before it is told to."""
    with make(autobegin=False) as session:
        for use in (
            lambda: session.scalars(select(Customer)),
            lambda: session.get(Customer, 1),
            lambda: session.connection(bind_arguments={"shard": "shop/s0"}),
            lambda: session.add(Customer(id=10, name="n")),
        ):
            with pytest.raises(InvalidRequestError, match=r"[Aa]utobegin is disabled"):
                use()
        with session.begin():
            session.add_all([Customer(id=10, name="n"), Customer(id=11, name="n")])
        with session.begin():
            assert len(session.scalars(select(Customer)).all()) == 8


def test_info(make: Make) -> None:
    """Each session has the application's own facts in a dict of its own."""
    given = {"tenant": 7}
    with make(info=given) as session:
        session.info["more"] = 1
        assert session.info["tenant"] == 7
    assert given == {"tenant": 7}


def test_query_cls(make: Make) -> None:
    """`session.query()` makes the application's queries, which are routed."""
    with make(query_cls=Names) as session:
        query = session.query(Customer)
        assert isinstance(query, Names)
        assert query.names() == ["c"] * 6
        assert query.filter(Customer.id == 3).one().orders[0].total == 3
        assert query.filter_by(id=3).count() == 1


@pytest.mark.skipif(
    "execution_options" not in signature(Session).parameters, reason="new in SQLAlchemy 2.1"
)
def test_execution_options(make: Make, full: Router) -> None:
    """They go with every statement of the session, to every shard."""
    heard = []
    for name, engine in full.engines.items():

        def note(connection: Any, *rest: Any, name: str = name) -> None:
            context = rest[3]
            heard.append((name, context.execution_options.get("note")))

        event.listen(engine, "before_cursor_execute", note)
    with make(execution_options={"note": 7}) as session:
        assert len(session.scalars(select(Customer)).all()) == 6
        assert session.execution_options == {"note": 7}
    assert sorted(set(heard)) == [("d0", 7), ("d1", 7), ("d2", 7)]


def test_close_resets_only(make: Make) -> None:
    """A closed session is used again, or never."""
    for again in (True, False):
        session = make(close_resets_only=again)
        assert session.get(Customer, 1) is not None
        session.close()
        if again:
            assert len(session.scalars(select(Customer)).all()) == 6
            session.close()
        else:
            with pytest.raises(InvalidRequestError, match="closed"):
                session.scalars(select(Customer))
            with pytest.raises(InvalidRequestError, match="closed"):
                session.get(Customer, 1)


def test_twophase(make: Make) -> None:
    """It asks for what the map does not: databases commit together, or are refused."""
    with make(twophase=True) as session:
        session.add(Customer(id=10, name="n"))
        session.flush()
        session.add(Customer(id=11, name="n"))
        with pytest.raises(CrossShardError, match="R401"):
            session.flush()


def test_join_transaction_mode(make: Make, full: Router) -> None:
    """A session on a connection takes part in its transaction as it is told to."""
    for mode, kept in (("create_savepoint", 0), ("control_fully", 1)):
        with full.engines["d0"].connect() as connection:
            outer = connection.begin()
            # SQLite's driver begins with the first write, not with a savepoint.
            connection.execute(insert(Customer.__table__).values(id=33, name="outer"))
            with make(bind=connection, join_transaction_mode=mode) as session:
                session.add(Customer(id=30, name="n"))
                session.commit()
            if outer.is_active:
                outer.rollback()
        with full.engines["d0"].connect() as connection:
            found = connection.execute(select(func.count()).where(Customer.id == 30))
            assert found.scalar_one() == kept


def test_class(full: Router) -> None:
    """The application's own class of sessions routes like its parent."""
    with full.sessionmaker(class_=Tenants)() as session:
        assert isinstance(session, Tenants)
        assert session.customers() == 6
    registry: Any = full.scoped_session(class_=Tenants)
    assert registry().customers() == 6
    registry.remove()


# -- events -------------------------------------------------------------------------------------


def test_events_of_a_sessionmaker(full: Router) -> None:
    """Handlers hear of every shard, and only for sessions of their maker."""
    make, heard = full.sessionmaker(), list[tuple[str, object]]()

    @event.listens_for(make, "after_begin")
    def begun(session: Session, transaction: Any, connection: Any) -> None:
        heard.append(("begin", full.engines.name_of(connection.engine)))

    @event.listens_for(make, "before_flush")
    def rename(session: Session, context: Any, instances: Any) -> None:
        for one in session.new:
            one.name = f"{one.name}!"

    @event.listens_for(make, "after_commit")
    def done(session: Session) -> None:
        heard.append(("commit", None))

    with make() as session:
        session.add_all(Customer(id=key, name="n") for key in range(12, 18))
        session.commit()
        names = session.scalars(select(Customer.name).where(Customer.id >= 12)).all()
        assert names == ["n!"] * 6
    begins = [("begin", name) for name in ("d0", "d1", "d2")]
    assert heard == [*begins, ("commit", None), *begins]
    with full.sessionmaker()() as other:
        other.add(Customer(id=20, name="n"))
        other.commit()
        assert other.get_one(Customer, 20).name == "n"
    assert len(heard) == 7


@pytest.mark.parametrize("target", ["sessionmaker", "scoped_session", "session"])
def test_criteria_of_an_event_hold_on_every_shard(full: Router, target: str) -> None:
    """A handler that filters every read filters each shard's part and each lazy load."""
    make: Any = full.scoped_session() if target == "scoped_session" else full.sessionmaker()
    session = make()

    def hide(state: Any) -> None:
        if state.is_select:
            state.statement = state.statement.options(
                with_loader_criteria(Customer, Customer.id > 2),
                with_loader_criteria(Order, Order.total < 5),
            )

    event.listen(session if target == "session" else make, "do_orm_execute", hide)
    if target == "sessionmaker":
        session = make()
    customers = session.scalars(select(Customer)).all()
    assert sorted(customer.id for customer in customers) == [3, 4, 5]
    assert sorted(len(customer.orders) for customer in customers) == [0, 1, 1]
    session.close()


# -- transactions -------------------------------------------------------------------------------


def test_begin_of_a_maker_commits_or_rolls_back_everything(full: Router) -> None:
    """The block's rows are on all of their shards, or on none."""
    make = full.sessionmaker()
    with make.begin() as session:
        session.add_all(Customer(id=key, name="kept") for key in range(12, 15))

    def fail() -> None:
        with make.begin() as session:
            session.add_all(Customer(id=key, name="gone") for key in range(15, 18))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with make() as session:
        added = session.scalars(select(Customer.name).where(Customer.id >= 12)).all()
        assert added == ["kept"] * 3
        assert session.in_transaction()
        with pytest.raises(InvalidRequestError, match="already begun"):
            session.begin()


def test_begin_of_a_session(full: Router) -> None:
    """The session is used again after its block, and its objects with it."""
    with full.sessionmaker()() as session:
        with session.begin():
            customers = session.scalars(select(Customer)).all()
            for customer in customers:
                customer.name = "new"
        assert not session.in_transaction()
        assert {customer.name for customer in customers} == {"new"}
        assert session.in_transaction()
        session.rollback()
        with session.begin() as transaction:
            customers[0].name = "lost"
            session.flush()
            transaction.rollback()
        assert {customer.name for customer in session.scalars(select(Customer))} == {"new"}


def test_make_transient_and_expunge(full: Router) -> None:
    """An object leaves one session and is added or merged to another, whichever its shard."""
    make = full.sessionmaker()
    with make() as session:
        customers = session.scalars(select(Customer)).all()
        for customer in customers:
            session.expunge(customer)
        assert len(session.identity_map) == 0
    with make.begin() as session:
        for customer in customers:
            customer.name = "added" if customer.id < 3 else "merged"
            if customer.id < 3:
                session.add(customer)
                continue
            assert session.merge(customer) is not customer
    make_transient(customers[0])
    customers[0].id, customers[0].name = 31, "new"
    with make.begin() as session:
        session.add(customers[0])
    with full.engines["d1"].connect() as connection:
        rows = connection.execute(select(Customer.id, Customer.name)).all()
    assert {tuple(row) for row in rows} == {(1, "added"), (4, "merged"), (31, "new")}


def test_merge_without_loading(full: Router) -> None:
    """Objects of a cache enter a session as they are; nothing is asked."""
    make = full.sessionmaker()
    with make() as session:
        cached = session.scalars(select(Customer)).all()
    with make() as session:
        sent = watch(full)
        merged = [session.merge(customer, load=False) for customer in cached]
        assert [session.get(Customer, customer.id) for customer in cached] == merged
        assert sent.sent == []
        next(one for one in merged if one.id == 4).name = "changed"
        session.commit()
        assert sent.count("UPDATE") == {"d1": 1}
