"""Engines: servers that do not answer, forks, connections that break, and their end."""

from __future__ import annotations

import gc
import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from router import Router, RoutingError, RoutingSession, ShardUnavailableError
from router.hooks.driver import set_pace
from router.lanes.pace import Fixed
from tests.conftest import MakeDatabases
from tests.session.shop import Base, Customer, open_router, shard_map
from tests.support.databases import query
from tests.support.processes import eventually

PASSWORD = "s3cret"
SERVERS = ["postgresql", "mariadb"]
BACKENDS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid()",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE db = database()"
    " AND id <> connection_id()",
}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(params=["silent", "closed"])
def half(
    request: pytest.FixtureRequest, silent: int, make_databases: MakeDatabases, dialect: str
) -> Iterator[Router]:
    """A shop whose shard s0 answers, and whose shard s1 is silent or not there at all."""
    urls = make_databases(dialect, 2)
    open_router(urls).dispose()
    port = silent if request.param == "silent" else 9
    scheme = urls[0].partition("://")[0]
    urls.append(f"{scheme}://app:{PASSWORD}@127.0.0.1:{port}/nowhere?connect_timeout=2")
    with Router.from_dict(shard_map(urls), metadata=Base.metadata) as router:
        yield router


REACH: dict[str, Callable[[RoutingSession], object]] = {
    "scatter": lambda session: session.scalars(select(Customer)).all(),
    "flush": lambda session: (
        session.add_all([Customer(id=2, name="good"), Customer(id=1, name="bad")]),
        session.flush(),
    ),
}


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
@pytest.mark.timeout(60)
def test_a_server_that_does_not_answer(half: Router) -> None:
    """Every use of the shard fails in time, naming it but not its password; others go on."""
    for reach in REACH.values():
        with half.sessionmaker()() as session:
            with pytest.raises(ShardUnavailableError, match="R501 database d1 at") as caught:
                reach(session)
            error = caught.value
            assert isinstance(error, OperationalError)
            assert error.database == "d1"
            told = "".join(traceback.format_exception(error))
            assert PASSWORD not in f"{told} {error!r} {error.orig!r} {half.engines['d1']!r}"
            session.rollback()
            session.add(Customer(id=4, name="good"))
            session.flush()
            assert session.get_one(Customer, 4).name == "good"
            session.rollback()
            assert session.get(Customer, 2) is None


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
def test_every_connection_has_a_time_limit(scheme: str, silent: int) -> None:
    """Unless the map says otherwise; what it says goes."""
    for query_string, options, seconds in (
        ("", {}, 10),
        ("?connect_timeout=2", {}, 2),
        ("", {"connect_args": {"connect_timeout": 3}}, 3),
    ):
        url = f"{scheme}://app:{PASSWORD}@127.0.0.1:{silent}/x{query_string}"
        data = {
            "version": 1,
            "databases": {"main": {"url": url, "engine": options}},
            "keyspaces": {"all": {"database": "main"}},
        }
        engine = Router.from_dict(data).engines["main"]
        assert int(_connect_arguments(engine)["connect_timeout"]) == seconds


def _connect_arguments(engine: Engine) -> dict[str, Any]:
    """Return what the driver is called with, without calling it."""
    given: dict[str, Any] = {}

    @event.listens_for(engine, "do_connect")
    def look(dialect: Any, record: Any, args: Any, kw: dict[str, Any]) -> None:
        given.update(kw)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        engine.connect()
    return given


# -- what engines are ---------------------------------------------------------------------------


def test_engines_are_made_once_and_as_the_map_says(make_databases: MakeDatabases) -> None:
    """Without connecting; threads that ask at once get the same one; others do not exist."""
    data = shard_map(make_databases("sqlite", 3), transactions={"two_phase": False})
    data["databases"]["d0"]["engine"] = {"pool_size": 3, "echo_pool": False, "pool_recycle": 77}
    with Router.from_dict(data, metadata=Base.metadata) as router:
        assert list(router.engines) == ["main", "d0", "d1"]
        start, found = threading.Barrier(8), list[Engine]()

        def ask() -> None:
            start.wait()
            found.append(router.engines["d0"])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(map(id, found))) == 1
        pool: Any = found[0].pool
        assert (pool.size(), pool._recycle, pool.checkedout()) == (3, 77, 0)
        with pytest.raises(RoutingError, match=r"R206.*main, d0, d1"):
            router.engines["d7"]
        assert router.engines["main"] is router.engine_for("accounts")


# -- connections that break ---------------------------------------------------------------------


def backends(router: Router, name: str) -> list[Any]:
    """Return the server's numbers of all connections to a database of the map."""
    url = router.engines[name].url
    kind = "postgresql" if url.get_backend_name() == "postgresql" else "mariadb"
    return [number for (number,) in query(url, BACKENDS[kind])]


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_a_connection_that_the_server_ends(shop: Router, dialect: str) -> None:
    """The transaction is lost, with all of its rows; the session and the router are not."""
    make = shop.sessionmaker()
    with make() as session:
        session.add_all([Customer(id=0, name="lost"), Customer(id=1, name="lost")])
        session.flush()
        for number in backends(shop, "d1"):
            query(shop.engines["d1"].url, KILL[dialect].format(number))
        with pytest.raises(DBAPIError) as caught:
            session.scalars(select(Customer).where(Customer.id == 1)).all()
        assert caught.value.connection_invalidated
        assert not isinstance(caught.value, ShardUnavailableError)
        session.rollback()
        assert session.scalars(select(Customer)).all() == []
        session.add_all([Customer(id=2, name="kept"), Customer(id=3, name="kept")])
        session.commit()
        assert sorted(session.scalars(select(Customer.id))) == [2, 3]


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_dispose_closes_everything(shop: Router) -> None:
    """No connection is left on any server; the router can be used again, and disposed again."""
    for end in (shop.dispose, lambda: shop.__exit__(None, None, None), shop.dispose):
        with shop.sessionmaker()() as session:
            assert session.scalars(select(Customer)).all() == []
            session.connection().execute(text("SELECT 1"))
        assert all(backends(shop, name) for name in shop.engines)
        end()
        assert all(engine.pool.checkedin() == 0 for engine in shop.engines.values())  # type: ignore[attr-defined]
        assert eventually(lambda: not any(backends(shop, name) for name in shop.engines))


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_connections_in_use_are_closed_when_given_back(shop: Router) -> None:
    """What was begun before `dispose()` goes on; then no pool that nobody asks keeps it."""
    for _ in range(2):
        pools = [engine.pool for engine in shop.engines.values()]
        with shop.sessionmaker()() as session:
            session.add_all([Customer(id=0, name="begun"), Customer(id=1, name="begun")])
            session.flush()
            shop.dispose()
            assert len(session.scalars(select(Customer)).all()) == 2
            assert all(backends(shop, name) for name in ("d0", "d1"))
        assert eventually(lambda: not any(backends(shop, name) for name in shop.engines))
        assert not {*pools} & {engine.pool for engine in shop.engines.values()}


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_an_opening_that_nobody_waits_for(shop: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """After another shard has failed, it may come to its end when the router has."""
    failing, slow = shop.engines["d0"], shop.engines["d1"]
    begun, disposed, opened = (threading.Event() for _ in range(3))
    open_connection = slow.raw_connection

    def late() -> Any:
        begun.set()
        disposed.wait()
        return open_connection()

    def fail(*args: object) -> None:
        begun.wait()
        raise LookupError

    shop.dispose()
    for engine in (failing, slow):
        set_pace(engine, Fixed(waits=True))
    monkeypatch.setattr(slow, "raw_connection", late)
    event.listen(slow, "connect", lambda *args: opened.set())
    event.listen(failing, "do_connect", fail)
    with shop.sessionmaker()() as session, pytest.raises(LookupError):
        session.scalars(select(Customer)).all()
    shop.dispose()
    disposed.set()
    assert opened.wait(30)
    assert eventually(lambda: not backends(shop, "d1"))


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_recovery_leaves_nothing_after_the_end(dialect: str, make_databases: MakeDatabases) -> None:
    """It may be at work when its router is disposed of; it closes what it opens afterwards."""
    begun, disposed = threading.Event(), threading.Event()
    urls = make_databases(dialect, 3)
    with open_router(urls, transactions={"recover_every": 0.1}) as router:

        def hold(*args: object) -> None:
            if threading.current_thread().name == "router-recovery":
                begun.set()
                disposed.wait()

        event.listen(router.engines["d0"], "before_cursor_execute", hold)
        router.sessionmaker()().close()
        assert begun.wait(30)
        watching = [one for one in threading.enumerate() if one.name == "router-recovery"]
    opened: list[str] = []
    for name, engine in router.engines.items():
        event.listen(engine, "checkout", lambda *_, name=name: opened.append(name))
    disposed.set()
    for thread in watching:
        thread.join()
    assert opened
    assert eventually(lambda: not any(backends(router, name) for name in router.engines))


# -- forks --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_a_fork_leaves_the_parents_transaction_alone(shop: Router) -> None:
    """The child collects and disposes all it has; what the parent has begun goes on."""
    Session = shop.scoped_session()
    Session.add_all([Customer(id=1, name="parent"), Customer(id=2, name="parent")])
    Session.flush()
    mine = {name: set(backends(shop, name)) for name in ("d0", "d1")}
    child = os.fork()
    if child == 0:
        _in_child(shop, Session)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert {name: set(backends(shop, name)) & mine[name] for name in mine} == mine
    Session.add(Customer(id=5, name="parent"))
    Session.commit()
    assert sorted(Session.scalars(select(Customer.id))) == [1, 2, 3, 4, 5]
    Session.remove()


def _in_child(router: Router, registry: Any) -> None:
    """Work, clean up and end, without running anything else of the parent's."""
    code = 1
    try:
        assert len(registry().identity_map) == 0
        registry.add_all([Customer(id=3, name="child"), Customer(id=4, name="child")])
        registry.commit()
        assert registry.get(Customer, 1) is None
        registry.remove()
        gc.collect()
        router.dispose()
        code = 0
    finally:
        os._exit(code)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_while_another_thread_makes_an_engine(make_databases: MakeDatabases) -> None:
    """The child does not wait for a lock that a thread of its parent held."""
    with open_router(make_databases("sqlite", 3)) as router:
        with router.engines._lock:
            child = os.fork()
            if child == 0:
                _dispose_and_end(router)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def _dispose_and_end(router: Router) -> None:
    code = 1
    try:
        router.dispose()
        with router.sessionmaker().begin() as session:
            session.add_all([Customer(id=3, name="child"), Customer(id=4, name="child")])
        code = 0
    finally:
        os._exit(code)


def test_two_routers_share_nothing(make_databases: MakeDatabases) -> None:
    """Disposing one leaves the engines and sessions of another of the same map alone."""
    urls = make_databases("sqlite", 3)
    with open_router(urls) as one, open_router(urls) as other:
        assert one.engines["d0"] is not other.engines["d0"]
        with other.sessionmaker()() as session:
            session.add(Customer(id=2, name="c"))
            session.flush()
            one.dispose()
            session.commit()
        plain = create_engine(urls[1], poolclass=NullPool)
        with plain.connect() as connection:
            assert connection.execute(select(Customer.id)).scalars().all() == [2]
