"""The scoped registry in threads, tasks, greenlets, requests and forked workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import greenlet
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from router import Router, RoutingSession
from router.session.registry import RoutingScopedSession
from tests.conftest import MakeDatabases
from tests.session.shop import Base, Customer, open_router


def test_it_is_a_scoped_session(lite: Router) -> None:
    """With everything that one has: proxies, configure, query_property, remove."""
    Session = lite.scoped_session()
    assert isinstance(Session, scoped_session)
    assert isinstance(Session(), RoutingSession)
    Session.add(Customer(id=1, name="c"))
    Session.commit()
    assert Session.get(Customer, 1) is Session().get(Customer, 1)
    Session.remove()
    Session.configure(expire_on_commit=False)
    assert Session().expire_on_commit is False
    Session.remove()
    assert Session(autoflush=False).autoflush is False
    Session.remove()


def test_a_factory_may_make_any_session() -> None:
    """A registry of ours works over sessions that know no partitions, as SQLAlchemy's does."""
    registry: Any = RoutingScopedSession(sessionmaker())
    assert isinstance(registry(), Session)
    assert not isinstance(registry(), RoutingSession)
    registry.remove()
    assert registry(autoflush=False).autoflush is False
    registry.remove()


def test_one_session_for_each_thread(lite: Router) -> None:
    """The same in one thread, others in others."""
    Session = lite.scoped_session()
    found: list[Any] = [Session(), Session()]
    thread = threading.Thread(target=lambda: found.append(Session()))
    thread.start()
    thread.join()
    assert found[0] is found[1]
    assert found[2] is not found[0]
    Session.remove()


def test_one_session_for_each_greenlet(lite: Router) -> None:
    """With `greenlet.getcurrent` as the scope."""
    Session = lite.scoped_session(scopefunc=greenlet.getcurrent)
    found: list[Any] = [Session()]
    greenlet.greenlet(lambda: found.append(Session())).switch()
    assert found[0] is not found[1]
    assert found[0] is Session()


def test_one_session_for_each_request(lite: Router) -> None:
    """A middleware sets the request's id and removes the session at the end."""
    request_id: ContextVar[int] = ContextVar("request_id")
    Session = lite.scoped_session(scopefunc=request_id.get)

    def middleware(app: Callable[[], list[int]], number: int) -> list[int]:
        token = request_id.set(number)
        try:
            with Session.partition(number, keyspace="shop"):
                return app()
        finally:
            Session.remove()
            request_id.reset(token)

    def app() -> list[int]:
        Session.add(Customer(id=request_id.get(), name="c"))
        Session.commit()
        return list(Session.scalars(select(Customer.id)))

    assert [middleware(app, number) for number in (1, 2, 4)] == [[1], [2], [1, 4]]
    assert Session.registry.registry == {}
    assert Session._pins.registry == {}


@pytest.mark.postgresql
def test_forked_workers(make_databases: MakeDatabases) -> None:
    """A fork after the engines were used: both processes go on, on connections of their own."""
    with open_router(make_databases("postgresql", 3)) as router:
        make = router.sessionmaker()
        with make.begin() as session:
            session.add_all([Customer(id=1, name="parent"), Customer(id=2, name="parent")])
        mine = _backends(router)
        child = os.fork()
        if child == 0:
            _in_child(router, mine)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert _backends(router) == mine
        with make() as session:
            assert sorted(session.scalars(select(Customer.id))) == [1, 2, 3, 4]


def _backends(router: Router) -> set[int]:
    found = set()
    for name in ("d0", "d1"):
        with router.engines[name].connect() as connection:
            found.add(connection.execute(select(func.pg_backend_pid())).scalar_one())
    return found


def _in_child(router: Router, parents: set[int]) -> None:
    # Nothing of the parent's interpreter may run on after this, whatever happens.
    code = 1
    try:
        with router.sessionmaker().begin() as session:
            session.add_all([Customer(id=3, name="child"), Customer(id=4, name="child")])
        code = 0 if not parents & _backends(router) else 2
    finally:
        os._exit(code)


def test_engines_by_name_and_key(lite: Router) -> None:
    """`router.engines` and `router.engine_for` are the same engines."""
    assert set(lite.engines) == {"main", "d0", "d1", "d2"}
    assert lite.engine_for("shop", 4) is lite.engines["d1"]
    assert lite.engine_for("accounts") is lite.engines["main"]
    with lite.engines["d1"].connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    assert Base.metadata.tables["customers"] is Customer.__table__
