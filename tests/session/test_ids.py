"""Ids in databases: leased nodes, defaults of models, sequences of shards."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Engine,
    ForeignKey,
    Uuid,
    create_engine,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from router import CrossShardError, Router, RoutingError, ids
from router.testing import record
from tests.conftest import MakeDatabases

IDS = int(os.environ.get("ROUTER_IDS", "20000"))
PROCESSES = 8


# -- leased nodes ------------------------------------------------------------------------------


@pytest.fixture
def url(make_databases: MakeDatabases, dialect: str) -> str:
    """A database for the table of leases."""
    return make_databases(dialect, 1)[0]


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An engine of that database, which has the table."""
    engine = create_engine(url)
    ids.LeasedNode(engine).create_table()
    yield engine
    engine.dispose()


def _back() -> int:
    """Return a time that is set back by an hour now and then."""
    now = time.time_ns() // 1_000_000
    return now - 3_600_000 if now // 50 % 2 else now


def _make(url: str, number: int, queue: Any) -> None:
    make = ids.TimeIds(ids.LeasedNode(create_engine(url)))
    if number == 0:
        make = ids.TimeIds(ids.LeasedNode(create_engine(url)), now=_back)
    made = [make() for _ in range(IDS)]
    ordered = all(one < other for one, other in itertools.pairwise(made))
    queue.put((ordered, make.node_of(made[0]), b"".join(one.to_bytes(8) for one in made)))


@pytest.mark.timeout(600)
def test_processes_never_make_the_same(engine: Engine, url: str) -> None:
    """In order within each, though the clock of one is set back again and again."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_make, args=(url, n, queue)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=500) for _ in workers]
    for worker in workers:
        worker.join()
    assert all(ordered for ordered, _, _ in found)
    assert len({node for _, node, _ in found}) == PROCESSES
    every = b"".join(part for _, _, part in found)
    made = {every[at : at + 8] for at in range(0, len(every), 8)}
    assert len(made) == PROCESSES * IDS


def test_leases(engine: Engine) -> None:
    """Each has a node of its own; the next window is the same one's."""
    process, another = ids.LeasedNode(engine), ids.LeasedNode(engine, name="default")
    first, second = process.lease(2), another.lease(2)
    now = time.time_ns() // 1_000_000
    one, other = first.reserve(now), second.reserve(now)
    assert {one.node, other.node} == {0, 1}
    assert one.first == now
    again = first.reserve(one.last + 1)
    assert (again.node, again.first) == (one.node, one.last + 1)
    assert ids.LeasedNode(engine, name="others").lease(2).reserve(now).node == 0
    # Numbers of makers with more bits are others; those of one process differ, too.
    assert process.lease(3).reserve(now).node == 0
    assert {process.lease(2).reserve(now).node for _ in range(2)} == {2, 3}
    with pytest.raises(RoutingError, match="R803 all 4 nodes of 'default/2' are leased"):
        process.lease(2).reserve(now)
    another.release()
    assert process.lease(2).reserve(now).node == other.node


def test_who_takes_over_starts_above(engine: Engine) -> None:
    """Even if its clock is behind, and whatever the former holder still makes."""
    old, new = ids.LeasedNode(engine).lease(0), ids.LeasedNode(engine).lease(0)
    now = time.time_ns() // 1_000_000
    before = old.reserve(now)
    with engine.begin() as connection:
        connection.execute(text("UPDATE router_nodes SET expires = 0"))
    after = new.reserve(now - 3_600_000)
    assert after.node == before.node
    assert after.first == before.last + 1
    # The old holder wants another window, and learns that it has lost its node.
    with pytest.raises(RoutingError, match="R803"):
        old.reserve(before.last + 1)


def test_a_restart_with_an_earlier_clock(engine: Engine) -> None:
    """The ceiling outlives the process."""
    now = time.time_ns() // 1_000_000
    first = ids.TimeIds(ids.LeasedNode(engine), node_bits=0, now=lambda: now)
    made = [first() for _ in range(100)]
    with engine.begin() as connection:
        connection.execute(text("UPDATE router_nodes SET expires = 0"))
    second = ids.TimeIds(ids.LeasedNode(engine), node_bits=0, now=lambda: now - 10_000)
    assert min(second() for _ in range(100)) > max(made)


def test_a_forked_child_leases_anew(engine: Engine) -> None:
    """It makes ids of another node, on a connection of its own."""
    make = ids.TimeIds(ids.LeasedNode(engine))
    mine = make()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(make()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(reader, 30))
    os.close(reader)
    os.close(writer)
    assert make.node_of(theirs) != make.node_of(mine)
    assert make.node_of(make()) == make.node_of(mine)


def test_no_table(url: str) -> None:
    """The error says how to make it."""
    engine = create_engine(url)
    with pytest.raises(RoutingError, match="R805"):
        ids.LeasedNode(lambda: engine).lease(2).reserve(0)
    engine.dispose()


# -- models ------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    """Base of the models."""


class Client(Base):
    """Has ids of time, and one of the other kind."""

    __tablename__ = "clients"

    id: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, default=ids.TimeIds(node=1)
    )
    token: Mapped[Any] = mapped_column(Uuid, default=ids.uuid7)
    deals: Mapped[list[Deal]] = relationship(back_populates="client")


class Deal(Base):
    """Its ids carry the bucket of its client."""

    __tablename__ = "deals"

    id: Mapped[int] = mapped_column(
        BigInteger,
        primary_key=True,
        autoincrement=False,
        default=ids.BucketIds("client_id", buckets=64, node=1),
    )
    client_id: Mapped[int] = mapped_column(ForeignKey("clients.id"))
    client: Mapped[Client] = relationship(back_populates="deals")


def shard_map(urls: list[str], buckets: int = 64, key: str = "client_id") -> dict[str, Any]:
    """Return a map of one keyspace."""
    return {
        "version": 1,
        "databases": {f"d{n}": {"url": url} for n, url in enumerate(urls)},
        "keyspaces": {
            "sales": {
                "shards": {f"s{n}": f"d{n}" for n in range(len(urls))},
                "sharding": {"function": "hash", "buckets": buckets},
                "tables": {"clients": "id", "deals": key},
            }
        },
        "transactions": {"two_phase": not urls[0].startswith("sqlite")},
    }


@pytest.fixture
def sales(make_databases: MakeDatabases, dialect: str) -> Iterator[Router]:
    """A router over four shards with 40 clients and 80 deals."""
    data = shard_map(make_databases(dialect, 4))
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        with router.sessionmaker().begin() as session:
            session.add_all(Client(id=key, deals=[Deal(), Deal()]) for key in range(40))
        yield router


def test_defaults_of_models(sales: Router) -> None:
    """Rows without ids are given them before it is decided where they go."""
    with sales.sessionmaker().begin() as session:
        clients = [Client(deals=[Deal()]) for _ in range(20)]
        session.add_all(clients)
        session.flush()
        assert len({one.id for one in clients}) == 20
        session.execute(insert(Deal), [{"client_id": one.id} for one in clients])
        session.execute(insert(Deal.__table__).values(client_id=clients[0].id))
    with sales.sessionmaker()() as session:
        found = session.execute(select(Client.id, Deal.id).join(Client.deals)).all()
        assert len({deal for _, deal in found}) == len(found) == 80 + 41
        keyspace: Any = sales.shard_map.keyspaces["sales"]
        make: Any = Deal.__table__.c.id.default.arg
        assert all(
            make.bucket_of(deal) == keyspace.function.bucket_of((client,)) for client, deal in found
        )


def test_the_id_names_the_shard(sales: Router) -> None:
    """Of `get`, of criteria, and of what is written by criteria."""
    with sales.sessionmaker()() as session:
        every = session.scalars(select(Deal)).all()
        wanted = [one.id for one in every[:6]]
        session.expunge_all()
        with record(sales) as seen:
            assert session.get_one(Deal, wanted[0]).id == wanted[0]
            assert len(seen.databases) == 1
        for statement in (
            select(Deal.id).where(Deal.id == wanted[1]),
            select(Deal.id).join(Client).where(Deal.id == wanted[1]),
        ):
            with record(sales) as seen:
                assert session.scalars(statement).all() == [wanted[1]]
            assert len(seen.databases) == 1
        with record(sales) as seen:
            many = select(Deal.id).where(Deal.id.in_(wanted)).order_by(Deal.id)
            assert session.scalars(many).all() == sorted(wanted)
        homes = {sales.engine_for("sales", one.client_id).url.database for one in every[:6]}
        assert len(seen.databases) == len(homes)
        make: Any = Deal.__table__.c.id.default.arg
        assert session.get(Deal, make.of_key(3, Deal.__table__)) is None
        with record(sales) as seen:
            session.execute(delete(Deal).where(Deal.id == wanted[0]))
        assert len(seen.databases) == 1
        assert session.get(Deal, wanted[0]) is None


def test_ids_of_another_bucket_are_refused(sales: Router) -> None:
    """They would be looked for where they are not."""
    make: Any = Deal.__table__.c.id.default.arg
    with sales.sessionmaker()() as session:
        client = session.get_one(Client, 3)
        right = make.of_key(3, Deal.__table__)
        other = right ^ (1 << 16)
        for write in (
            lambda: session.add(Deal(id=other, client=client)) or session.flush(),
            lambda: session.execute(insert(Deal), [{"id": other, "client_id": 3}]),
            lambda: session.execute(insert(Deal.__table__).values(id=other, client_id=3)),
        ):
            with pytest.raises(RoutingError, match="R807"):
                write()
            session.rollback()
        session.execute(insert(Deal), [{"id": right, "client_id": 3}])
        assert session.get_one(Deal, right).client_id == 3
        with pytest.raises((RoutingError, CrossShardError), match=r"R203|R807"):
            session.execute(update(Deal).where(Deal.id == right).values(id=other))
        session.rollback()
        deal = session.scalars(select(Deal).where(Deal.client_id == 5)).first()
        home = make.bucket_of(deal.id)
        others = {key: make.bucket_of(make.of_key(key, Deal.__table__)) for key in range(40)}
        deal.client_id = next(key for key, bucket in others.items() if bucket != home)
        with pytest.raises(RoutingError, match="R807"):
            session.flush()


@pytest.mark.parametrize(("buckets", "key"), [(128, "client_id"), (64, "id")])
def test_a_map_with_other_buckets(make_databases: MakeDatabases, buckets: int, key: str) -> None:
    """The ids would name other shards."""
    data = shard_map(make_databases("sqlite", 2), buckets, key)
    reason = r"R807 the ids of deals\.id carry one of 64 buckets"
    with (
        Router.from_dict(data, metadata=Base.metadata) as router,
        pytest.raises(RoutingError, match=reason),
    ):
        router.create_all()


# -- sequences ---------------------------------------------------------------------------------


class Counted(DeclarativeBase):
    """Base of models whose ids the shards count."""


class Ticket(Counted):
    """The primary key does not contain the shard key."""

    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(
        BigInteger, ids.StripedSequence("ticket_ids", stripes=8), primary_key=True
    )
    seat: Mapped[int]


def test_shards_count_in_steps(make_databases: MakeDatabases, dialect: str) -> None:
    """No two make the same number; a database without sequences is refused."""
    data = shard_map(make_databases(dialect, 3))
    data["keyspaces"]["sales"]["tables"] = {"tickets": "seat"}
    with Router.from_dict(data, metadata=Counted.metadata) as router:
        if dialect == "sqlite":
            with pytest.raises(RoutingError, match="R806 sqlite has no sequences"):
                router.create_all()
            return
        router.create_all()
        router.create_all()
        with router.sessionmaker().begin() as session:
            session.add_all(Ticket(seat=seat) for seat in range(30))
            session.execute(insert(Ticket), [{"seat": seat} for seat in range(30, 60)])
        with router.sessionmaker()() as session:
            found = session.execute(select(Ticket.id, Ticket.seat)).all()
        assert len({one for one, _ in found}) == 60
        keyspace: Any = router.shard_map.keyspaces["sales"]
        names = list(keyspace.shards)
        for number, seat in found:
            assert (number - 1) % 8 == names.index(keyspace.function.shard_of((seat,)))
        router.drop_all()


def test_more_shards_than_stripes() -> None:
    """The numbers would meet."""
    with pytest.raises(RoutingError, match="R806 sequence s has 2 stripes"):
        ids.StripedSequence("s", stripes=2).for_shard(2)
