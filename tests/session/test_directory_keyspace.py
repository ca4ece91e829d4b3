"""Sessions over a directory keyspace: keys are placed before rows, and found where they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from router import Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.conftest import watch
from tests.session.shop import Account, Base, Customer, Note, Order, shard_map

REPOSITORY = Path(__file__).parents[2]


def open_directory(urls: list[str]) -> Router:
    """Return a router whose shop has a directory in the main database."""
    two_phase = not urls[0].startswith("sqlite")
    data = shard_map(urls, transactions={"two_phase": two_phase})
    data["keyspaces"]["shop"]["sharding"] = {
        "function": "directory",
        "database": "main",
        "place": {"function": "modulo"},
    }
    router = Router.from_dict(data, metadata=Base.metadata)
    router.create_all()
    return router


@pytest.fixture
def placed(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """A shop over two shards with an empty directory."""
    with open_directory(make_databases(dialect, 3)) as router:
        yield router


def directory(router: Router) -> dict[int, str]:
    """Return what the directory's table says."""
    with router.engines["main"].connect() as connection:
        rows = connection.execute(text("SELECT key_hex, shard FROM router_directory"))
        return {int(bytes.fromhex(key)): shard for key, shard in rows}


def move(router: Router, key: int, shard: str) -> None:
    """Move a customer behind the back of every session."""
    old, new = router.engine_for("shop", key), router.engines[f"d{shard[1:]}"]
    with old.begin() as connection:
        connection.execute(text(f"DELETE FROM customers WHERE id = {key}"))
    with new.begin() as connection:
        connection.execute(text(f"INSERT INTO customers (id, name) VALUES ({key}, 'moved')"))
    hexed = str(key).encode().hex()
    with router.engines["main"].begin() as connection:
        connection.execute(
            text(f"UPDATE router_directory SET shard = '{shard}' WHERE key_hex = '{hexed}'")
        )


def test_keys_are_placed_before_their_rows(placed: Router) -> None:
    """By flushes, by INSERT and by bulk operations; reading places nothing."""
    make = placed.sessionmaker()
    with make() as session:
        assert session.get(Customer, 1) is None
        assert session.scalars(select(Order).where(Order.customer_id.in_([1, 2]))).all() == []
        session.merge(Note(id=1, customer_id=77, text=""))
        session.expunge_all()
    assert directory(placed) == {}
    with make.begin() as session:
        session.add(Customer(id=1, name="a", orders=[Order(number=1)]))
        session.execute(insert(Customer).values(id=2, name="b"))
        session.execute(insert(Customer), [{"id": 3, "name": "c"}, {"id": 5, "name": "d"}])
        session.bulk_insert_mappings(Customer, [{"id": 4, "name": "e"}])
        session.bulk_save_objects([Customer(id=6, name="f")])
    assert directory(placed) == {1: "s1", 2: "s0", 3: "s1", 4: "s0", 5: "s1", 6: "s0"}
    with make() as session:
        assert len(session.scalars(select(Customer)).all()) == 6
        assert session.get_one(Customer, 1).orders[0].number == 1


def test_a_flush_asks_the_directory_once(placed: Router) -> None:
    """All its keys together, before the first row is written."""
    with placed.sessionmaker().begin() as session:
        session.add_all([Customer(id=key, name="", orders=[Order(number=1)]) for key in range(50)])
        sent = watch(placed)
        session.flush()
        asked = [sql for name, sql in sent.sent if "router_directory" in sql]
        assert len(asked) <= 3
        assert all("router_directory" in sql for _, sql in sent.sent[: len(asked)])
        session.scalars(select(Customer).where(Customer.id == 7)).one()
        assert len([sql for _, sql in sent.sent if "router_directory" in sql]) == len(asked)


def test_a_moved_key_is_found_at_its_new_place(placed: Router) -> None:
    """Each transaction confirms a key once, so what was remembered before does not matter."""
    make = placed.sessionmaker()
    with make.begin() as session:
        session.add_all([Customer(id=1, name="here"), Customer(id=2, name="here")])
    move(placed, 1, "s0")
    with make() as session:
        moved = session.get_one(Customer, 1)
        assert moved.name == "moved"
        session.rollback()
        move(placed, 2, "s1")
        found = session.scalars(select(Customer).where(Customer.id.in_([1, 2]))).all()
        assert {one.name for one in found} == {"moved"}
        moved.name = "changed"
        session.commit()
        with session.partition(2, keyspace="shop") as pin:
            assert pin.shard == "s1"


def test_a_new_key_in_a_partition(placed: Router) -> None:
    """It is placed where the session is pinned to, by text and connections, too."""
    make = placed.sessionmaker()
    with make.begin() as session, session.partition(7, keyspace="shop"):
        assert session.scalars(select(Customer)).all() == []
        assert directory(placed) == {}
        session.execute(text("INSERT INTO customers (id, name) VALUES (7, 'text')"))
    assert directory(placed) == {7: "s1"}
    with make.begin() as session, session.partition(8, keyspace="shop"):
        session.connection().execute(text("INSERT INTO customers (id, name) VALUES (8, 'c')"))
        session.add(Order(customer_id=8, number=1))
    with make.begin() as session:
        where = {"keyspace": "shop", "shard_key": 9}
        statement = text("INSERT INTO customers (id, name) VALUES (9, 'x')")
        session.execute(statement, bind_arguments=where)
    assert directory(placed) == {7: "s1", 8: "s0", 9: "s1"}
    with make() as session:
        assert {one.id for one in session.scalars(select(Customer))} == {7, 8, 9}
        assert session.get_one(Customer, 9).name == "x"


def test_a_key_that_moves_while_a_partition_is_open(placed: Router) -> None:
    """Nothing is written to the shard that it has left."""
    make = placed.sessionmaker()
    with make.begin() as session:
        session.add(Customer(id=1, name="here"))
    with make() as session, session.partition(1, keyspace="shop"):
        session.rollback()
        move(placed, 1, "s0")
        with pytest.raises(RoutingError, match="R208"):
            session.execute(text("UPDATE customers SET name = 'lost'"))
        with pytest.raises(RoutingError, match="R208"):
            session.get(Customer, 1)


def test_an_object_of_a_moved_row(placed: Router) -> None:
    """A change of a row that moved meanwhile goes to its new place."""
    make = placed.sessionmaker(expire_on_commit=False)
    with make() as session:
        customer = Customer(id=1, name="here")
        session.add(customer)
        session.commit()
        move(placed, 1, "s0")
        customer.name = "changed"
        session.commit()
        session.expire_all()
        assert customer.name == "changed"


def test_bad_keys(placed: Router) -> None:
    """Keys that are too long or of the wrong type are errors; none is placed."""
    with placed.sessionmaker()() as session:
        with pytest.raises(RoutingError, match="R204"):
            session.get(Customer, int("9" * 300))
        session.add(Customer(id="7", name=""))  # type: ignore[arg-type]
        with pytest.raises(RoutingError, match="R204"):
            session.flush()
        session.rollback()
        session.add(Note(id=1, text=""))
        with pytest.raises(RoutingError, match=r"R20[25]"):
            session.flush()
    assert directory(placed) == {}


def test_rows_of_several_shards_are_placed(placed: Router) -> None:
    """Each new key gets its place, as with rows that are flushed."""
    with placed.sessionmaker().begin() as session:
        session.execute(insert(Customer), [{"id": key, "name": ""} for key in range(1, 9)])
    assert set(directory(placed)) == set(range(1, 9))
    with placed.sessionmaker()() as session:
        assert sorted(session.scalars(select(Customer.id))) == list(range(1, 9))


def test_without_a_transaction_at_hand(placed: Router) -> None:
    """get_bind() and engine_for() find keys as well."""
    assert placed.engine_for("shop", 3) is placed.engines["d1"]
    with placed.sessionmaker()() as session:
        assert session.get_bind(keyspace="shop", shard_key=4) is placed.engines["d0"]
        assert session.get_bind(Account) is placed.engines["main"]


WORKER = """
import sys
from sqlalchemy.exc import OperationalError
from router import Router
from tests.session.shop import Customer
from tests.session.test_directory_keyspace import open_directory
name, *urls = sys.argv[1:]
router = open_directory(urls)
function = router.shard_map.keyspaces["shop"].function
# Proposes another shard than its rival does.
rival = type("Rival", (), {"shard_of": lambda self, key: name})()
object.__setattr__(function, "place", rival)
print("ready", flush=True)
sys.stdin.readline()
for key in range(20):
    with router.sessionmaker()() as session:
        session.merge(Customer(id=key, name=name))
        try:
            session.commit()
        except Exception as error:
            assert "unique" in str(error).lower() or "duplicate" in str(error).lower(), error
print("done")
"""


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
def test_two_processes_never_place_a_key_differently(urls_of_three: list[str]) -> None:
    """Every customer is on one shard only, the one that the directory names."""
    with open_directory(urls_of_three) as router:
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, name, *urls_of_three],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=REPOSITORY,
            )
            for name in ("s0", "s1")
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        assert [worker.communicate("go\n", timeout=120)[0] for worker in workers] == ["done\n"] * 2
        rows: dict[int, list[str]] = {}
        for shard in ("s0", "s1"):
            with router.engines[f"d{shard[1]}"].connect() as connection:
                for key in connection.execute(text("SELECT id FROM customers")).scalars():
                    rows.setdefault(key, []).append(shard)
        assert rows == {key: [shard] for key, shard in directory(router).items()}
        assert len(rows) == 20


@pytest.fixture
def urls_of_three(dialect: str, make_databases: MakeDatabases) -> list[str]:
    """Three databases of one kind."""
    return make_databases(dialect, 3)


def test_plain_use_of_the_session(placed: Router) -> None:
    """Rollbacks leave a placement, which is harmless."""
    with placed.sessionmaker()() as session:
        session.add(Customer(id=1, name="gone"))
        session.flush()
        session.rollback()
        assert isinstance(session, Session)
        assert session.get(Customer, 1) is None
    assert directory(placed) == {1: "s1"}
