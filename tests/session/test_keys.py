"""Shard keys of objects: where they come from, and what must not happen to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy import (
    ForeignKey,
    String,
    bindparam,
    delete,
    event,
    insert,
    null,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    deferred,
    mapped_column,
    object_session,
    relationship,
)
from sqlalchemy.orm.exc import StaleDataError

from router import CrossShardError, Router, RoutingError
from tests.conftest import MakeDatabases
from tests.session.conftest import watch
from tests.session.shop import Account, Customer, Line, Note, Order


class Base(DeclarativeBase):
    """Base of the models."""


class Event(Base):
    """A row that may have no key."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant: Mapped[int | None]
    text: Mapped[str | None] = deferred(mapped_column(String(40)))


class Counted(Base):
    """A key with a default in Python; a value that the database generates."""

    __tablename__ = "counted"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant: Mapped[int] = mapped_column(default=lambda: 4)
    made: Mapped[int] = mapped_column(server_default=text("11"))

    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}


class Plain(Base):
    """A key with a plain default."""

    __tablename__ = "plain"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant: Mapped[int] = mapped_column(default=5)


class Generated(Base):
    """A key that only the database knows."""

    __tablename__ = "generated"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant: Mapped[int] = mapped_column(server_default=text("1"))


class Node(Base):
    """A tree whose nodes take their key from their parent."""

    __tablename__ = "nodes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant: Mapped[int]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    favorite_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    children: Mapped[list[Node]] = relationship(
        foreign_keys=[parent_id], cascade="all, delete-orphan", back_populates="parent"
    )
    parent: Mapped[Node | None] = relationship(
        foreign_keys=[parent_id], remote_side="Node.id", back_populates="children"
    )
    favorite: Mapped[Node | None] = relationship(
        foreign_keys=[favorite_id], remote_side="Node.id", post_update=True
    )


class Person(Base):
    """The base of a hierarchy over two tables."""

    __tablename__ = "people"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "person",
    }


class Employee(Person):
    """Rows in both tables, with one key."""

    __tablename__ = "employees"

    id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    desk: Mapped[int]
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "employee"}


class Guest(Person):
    """Rows in the table of the base only."""

    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "guest"}


SHARDS = 4


@pytest.fixture
def keyed(make_databases: MakeDatabases) -> Iterator[Router]:
    """All models over four shards; events without a key live on the first."""
    urls = make_databases("sqlite", SHARDS)
    tenant = ("events", "counted", "plain", "generated", "nodes")
    data = {
        "version": 1,
        "databases": {f"d{number}": {"url": url} for number, url in enumerate(urls)},
        "keyspaces": {
            "all": {
                "shards": {f"s{number}": f"d{number}" for number in range(SHARDS)},
                "sharding": {"function": "modulo", "null_shard": "s0"},
                "tables": {**dict.fromkeys(tenant, "tenant"), "people": "id", "employees": "id"},
            }
        },
        "transactions": {"two_phase": False},
    }
    with Router.from_dict(data, metadata=Base.metadata) as router:
        router.create_all()
        yield router


def homes(router: Router, table: str, key: str = "tenant") -> dict[str, set[object]]:
    """Return database name -> the keys of the rows there."""
    found = {}
    for name in router.engines:
        with router.engines[name].connect() as connection:
            keys = connection.execute(text(f"SELECT {key} FROM {table}")).scalars()
            found[name] = set(keys)
    return {name: keys for name, keys in found.items() if keys}


def test_defaults_in_python_place_the_row(keyed: Router) -> None:
    """Also where None was assigned, which SQLAlchemy takes for absent."""
    with keyed.sessionmaker().begin() as session:
        counted = [Counted(id=1), Counted(id=2, tenant=None), Counted(id=3, tenant=7)]
        session.add_all([*counted, Plain(id=1), Plain(id=2, tenant=None)])
        session.flush()
        assert [one.made for one in counted] == [11, 11, 11]
    assert homes(keyed, "counted") == {"d0": {4}, "d3": {7}}
    assert homes(keyed, "plain") == {"d1": {5}}


@pytest.mark.parametrize("given", [{}, {"tenant": None}, {"tenant": null()}, {"tenant": text("1")}])
def test_a_key_that_the_database_computes_is_refused(keyed: Router, given: dict[str, Any]) -> None:
    """Even where rows without a key would have a home, since this one gets a key there."""
    with keyed.sessionmaker()() as session:
        session.add(Generated(id=1, **given))
        with pytest.raises(RoutingError, match="R202"):
            session.flush()
    assert homes(keyed, "generated") == {}


def test_rows_without_a_key(keyed: Router) -> None:
    """They live on the null shard and are found there; given a key later, they move."""
    with keyed.sessionmaker().begin() as session:
        session.add_all([Event(id=1), Event(id=2, tenant=2, text="t")])
    assert homes(keyed, "events") == {"d0": {None}, "d2": {2}}
    with keyed.sessionmaker()() as session:
        sent = watch(keyed)
        found = session.scalars(select(Event).where(Event.tenant.is_(None))).one()
        assert sent.count("SELECT") == {"d0": 1}
        found.tenant = 1
        session.commit()
    assert homes(keyed, "events") == {"d1": {1}, "d2": {2}}


def test_deferred_columns_come_from_the_own_shard(keyed: Router) -> None:
    """Loading one asks the row's shard only."""
    with keyed.sessionmaker().begin() as session:
        session.add_all([Event(id=1, tenant=1, text="one"), Event(id=1, tenant=2, text="two")])
    with keyed.sessionmaker()() as session:
        loaded = session.scalars(select(Event)).all()
        sent = watch(keyed)
        assert {one.tenant: one.text for one in loaded} == {1: "one", 2: "two"}
        assert sent.count("SELECT") == {"d1": 1, "d2": 1}


def _expire_and_set(note: Note) -> None:
    object_session(note).expire(note)
    note.customer_id = 5


CHANGES: dict[str, Callable[[Note], None]] = {
    "assigned": lambda note: setattr(note, "customer_id", 5),
    "deleted": lambda note: delattr(note, "customer_id"),
    "none": lambda note: setattr(note, "customer_id", None),
    "same shard": lambda note: setattr(note, "customer_id", 4),
    "relationship": lambda note: setattr(note, "customer", object_session(note).get(Customer, 2)),
    "unloaded": lambda note: (object_session(note).expire(note), setattr(note, "customer_id", 5))[
        1
    ],
    "expression": lambda note: setattr(note, "customer_id", Note.customer_id + 1),
}


@pytest.fixture
def full(lite: Router) -> Router:
    """Customers 0 to 2 on a shard each, with notes and orders."""
    with lite.sessionmaker().begin() as session:
        for key in range(3):
            session.add(Customer(id=key, name=f"c{key}"))
            session.add(Note(id=1, customer_id=key, text=f"n{key}"))
            session.add(Order(customer_id=key, number=1))
    return lite


@pytest.mark.parametrize("how", ["deleted", "none", "expression"])
def test_no_key_is_no_change_of_it(full: Router, how: str) -> None:
    """What says no shard is refused, and the row stays what and where it is."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        CHANGES[how](note)
        with pytest.raises(RoutingError, match=r"R20[25]"):
            session.flush()
        session.rollback()
    assert homes_of_shop(full) == {"d0": {0}, "d1": {1}, "d2": {2}}


@pytest.mark.parametrize("how", ["assigned", "relationship", "unloaded"])
def test_every_way_of_changing_a_key_moves_the_row(full: Router, how: str) -> None:
    """Unless a row of its primary key is there already, as in one database."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        CHANGES[how](note)
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        assert homes_of_shop(full) == {"d0": {0}, "d1": {1}, "d2": {2}}
        session.execute(delete(Note).where(Note.customer_id == 2))
        CHANGES[how](note)
        session.commit()
    assert homes_of_shop(full) == {
        "d0": {0},
        "d1": set(),
        "d2": {2 if how == "relationship" else 5},
    }


def test_another_key_of_the_same_shard(full: Router) -> None:
    """Is written where the row is."""
    with full.sessionmaker().begin() as session:
        CHANGES["same shard"](session.scalars(select(Note).where(Note.customer_id == 1)).one())
    assert homes_of_shop(full) == {"d0": {0}, "d1": {4}, "d2": {2}}


def homes_of_shop(router: Router) -> dict[str, set[object]]:
    """Return database name -> the customers whose notes are there."""
    found = {}
    for name in ("d0", "d1", "d2"):
        with router.engines[name].connect() as connection:
            found[name] = set(connection.execute(text("SELECT customer_id FROM notes")).scalars())
    return found


def test_a_key_in_the_primary_key_moves_too(full: Router) -> None:
    """Even where its old value was not loaded; not onto another row."""
    with full.sessionmaker()() as session:
        order = session.get(Order, (1, 1))
        session.expire(order)
        order.customer_id = 2
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        order.customer_id = 1
        order.total = 9
        session.commit()
        assert session.get(Order, (1, 1)).total == 9


def test_handlers_that_change_keys_of_old_rows(full: Router) -> None:
    """`before_update` runs after the connection was chosen."""

    def move(mapper: object, connection: object, note: Note) -> None:
        note.customer_id = 2

    event.listen(Note, "before_update", move)
    try:
        with full.sessionmaker()() as session:
            session.scalars(select(Note).where(Note.customer_id == 1)).one().text = "x"
            with pytest.raises(RoutingError, match="R203"):
                session.commit()
    finally:
        event.remove(Note, "before_update", move)
    assert homes_of_shop(full) == {"d0": {0}, "d1": {1}, "d2": {2}}


def test_handlers_that_only_look(full: Router) -> None:
    """Loading the key while rows are written is no change of it."""

    def look(mapper: object, connection: object, note: Note) -> None:
        assert note.customer_id == 1

    event.listen(Note, "before_update", look)
    try:
        with full.sessionmaker().begin() as session:
            note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
            session.expire(note, ["customer_id"])
            note.text = "seen"
    finally:
        event.remove(Note, "before_update", look)


@pytest.mark.parametrize("how", ["self", "post_update", "deep"])
def test_trees(keyed: Router, how: str) -> None:
    """Rows that refer to their own table go to their shard, and are deleted with their root."""
    with keyed.sessionmaker().begin() as session:
        for tenant in range(8):
            root = Node(id=tenant * 10, tenant=tenant)
            child = Node(id=tenant * 10 + 1, tenant=tenant, parent=root)
            if how == "post_update":
                root.favorite = child
            if how == "deep":
                child.children.append(Node(id=tenant * 10 + 2, tenant=tenant))
            session.add(root)
    assert homes(keyed, "nodes") == {f"d{number}": {number, number + 4} for number in range(4)}
    with keyed.sessionmaker().begin() as session:
        for root in session.scalars(select(Node).where(Node.parent_id.is_(None))):
            assert all(child.tenant == root.tenant for child in root.children)
            root.favorite = None
            session.delete(root)
    assert homes(keyed, "nodes") == {}


def test_trees_go_in_batches(keyed: Router) -> None:
    """One statement for each level and shard, not for each row."""
    with keyed.sessionmaker().begin() as session:
        sent = watch(keyed)
        for tenant in range(40):
            root = Node(id=tenant * 10, tenant=tenant)
            root.children = [Node(id=tenant * 10 + n, tenant=tenant) for n in range(1, 4)]
            session.add(root)
        session.flush()
        assert sent.count("INSERT") == dict.fromkeys(["d0", "d1", "d2", "d3"], 2)


def test_inheritance_over_shards(keyed: Router) -> None:
    """Both tables of a row are on one shard; each class is found by get() and by queries."""
    with keyed.sessionmaker().begin() as session:
        sent = watch(keyed)
        session.add_all([Employee(id=key, desk=key) for key in range(8)])
        session.add_all([Guest(id=key) for key in range(8, 16)])
        session.flush()
        assert set(sent.count("INSERT").values()) == {2}
    with keyed.sessionmaker().begin() as session:
        assert isinstance(session.get(Person, 3), Employee)
        assert session.get(Employee, 3).desk == 3
        assert len(session.scalars(select(Person)).all()) == 16
        assert len(session.scalars(select(Guest)).all()) == 8
        found = session.scalars(select(Employee).where(Employee.id.in_([1, 2]))).all()
        assert {one.desk for one in found} == {1, 2}
        for one in found:
            one.desk += 100
        session.delete(session.get(Employee, 5))
    assert homes(keyed, "employees", "desk")["d1"] == {101}
    assert homes(keyed, "people", "id")["d1"] == {1, 9, 13}


def test_bulk_operations_on_one_shard(full: Router) -> None:
    """Rows of one shard are written; the objects and statements of others are left alone."""
    with full.sessionmaker().begin() as session:
        session.bulk_insert_mappings(Order, [{"customer_id": 4, "number": n} for n in range(3)])
        session.bulk_save_objects([Note(id=9, customer_id=4, text="b")], return_defaults=True)
        session.execute(insert(Customer), [{"id": 4, "name": "x"}, {"id": 7, "name": "y"}])
        session.execute(update(Customer), [{"id": 4, "name": "z"}])
        session.bulk_update_mappings(Customer, [{"id": 7, "name": "w"}])
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        note.text = "bulk"
        session.bulk_save_objects([note])
        session.bulk_insert_mappings(Account, [{"name": "a"}])
    with full.sessionmaker()() as session:
        assert session.get(Customer, 4).name == "z"
        assert session.get(Customer, 7).name == "w"
        texts = session.scalars(select(Note).where(Note.customer_id == 1)).all()
        assert [one.text for one in texts] == ["bulk"]


def test_bulk_operations_without_a_shard_are_refused(full: Router) -> None:
    """Before anything is written; so are those that could hit a namesake on another shard."""
    with full.sessionmaker()() as session:
        note = session.scalars(select(Note).where(Note.customer_id == 1)).one()
        with session.no_autoflush:
            note.customer_id = 2
            for refused, code in (
                (lambda: session.bulk_save_objects([note]), "R203"),
                (
                    lambda: session.bulk_update_mappings(
                        Note, [{"id": 1, "customer_id": 2, "text": "wrong row"}]
                    ),
                    "R305",
                ),
                (lambda: session.bulk_insert_mappings(Order, [{"number": 1}]), "R202"),
                (lambda: session.bulk_save_objects([Line(id=1, note_id=1)]), "R20[25]"),
            ):
                with pytest.raises((CrossShardError, RoutingError), match=code):
                    refused()
        session.rollback()
        assert len(session.scalars(select(Order)).all()) == 3
        assert {one.text for one in session.scalars(select(Note))} == {"n0", "n1", "n2"}


def test_versions(full: Router) -> None:
    """A row changed behind the session's back is noticed on its shard."""
    with full.sessionmaker()() as session:
        order, other = session.get(Order, (1, 1)), session.get(Order, (2, 1))
        with full.engines["d1"].begin() as connection:
            connection.execute(text("UPDATE orders SET version = 9"))
        order.total = other.total = 3
        with pytest.raises(StaleDataError):
            session.commit()
    with full.sessionmaker()() as session:
        assert session.get(Order, (2, 1)).total == 0


def test_keys_that_the_database_computes_for_core(keyed: Router) -> None:
    """An INSERT without the key is refused like an object without it."""
    with keyed.sessionmaker()() as session, pytest.raises(RoutingError, match="R202"):
        session.execute(insert(Generated).values(id=1))


def test_values_by_made_up_names(lite: Router) -> None:
    """SQLAlchemy takes values by the names that it renders; the key would be another one."""
    own = select(Customer.name).where(Customer.id == 1)
    named = select(Customer.name).where(Customer.id == bindparam("id_1"))
    rows = insert(Customer).values([{"id": 3, "name": "c"}, {"id": 6, "name": "f"}])
    with lite.sessionmaker()() as session:
        session.add_all([Customer(id=1, name="a"), Customer(id=2, name="b")])
        session.flush()
        for statement in (own, delete(Customer).where(Customer.id == 1)):
            with pytest.raises(RoutingError, match="R204"):
                session.execute(statement, {"id_1": 2})
        with pytest.raises(RoutingError, match="R204"):
            session.execute(rows, {"id_m1": 7})
        assert session.scalar(named, {"id_1": 2}) == "b"
        assert session.scalar(own) == "a"
