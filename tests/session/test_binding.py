"""Which database a mapper, a table or a clause is bound to, and in which order that is decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    create_engine,
    delete,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, aliased
from sqlalchemy.pool import NullPool

from router import CrossShardError, Router, RouterError, RoutingError, RoutingSession
from tests.conftest import MakeDatabases
from tests.session import bindings
from tests.session.bindings import (
    HOMES,
    METADATA,
    NAMES,
    Base,
    Correction,
    Document,
    Event,
    Invoice,
    Item,
    Letter,
    Log,
    Memo,
    Stray,
    bound_map,
    core,
)


@pytest.fixture
def bound(make_databases: MakeDatabases) -> Iterator[Router]:
    """A router over every way to be bound, with all tables created."""
    data = bound_map(make_databases("sqlite", len(NAMES) + 2))
    with Router.from_dict(data, metadata=METADATA) as router:
        router.create_all()
        yield router


def name_of(router: Router, bind: Any) -> str | None:
    """Return the name of the database of an engine or connection."""
    return router.engines.name_of(bind.engine)


# -- the order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", HOMES, ids=lambda mapped: mapped.__name__)
def test_every_way_to_be_bound(bound: Router, mapped: Any) -> None:
    """The first that applies wins: mapper, MRO, table, metadata, default; for all uses alike."""
    home = HOMES[mapped]
    with bound.sessionmaker()() as session:
        for found in (
            session.get_bind(mapped),
            session.get_bind(inspect(mapped)),
            session.get_bind(mapper=mapped),
            session.get_bind(clause=select(mapped)),
            session.get_bind(clause=mapped.__table__),
            session.connection(bind_arguments={"mapper": mapped}),
        ):
            assert name_of(bound, found) == home
        session.add(mapped(id=1))
        session.commit()
        assert session.get(mapped, 1) is session.scalars(select(mapped)).one()
        session.execute(delete(mapped).where(mapped.id == 99))
    with Session(bound.engines[home]) as plain:
        assert plain.scalars(select(mapped.id)).all() == [1]


def test_tables_exist_where_they_are_bound_and_nowhere_else(bound: Router) -> None:
    """`create_all` follows the same order."""
    tables: dict[str, set[str]] = {}
    for name in bound.engines:
        tables[name] = set(inspect(bound.engines[name]).get_table_names())
    assert tables == {
        "by_mapper": {"invoices"},
        "by_class": {"entries", "documents", "letters"},
        "by_special": {"corrections"},
        "by_table": {"logs"},
        "by_schema": {"happenings"},
        "by_metadata": {"plains", "happenings"},
        "by_default": {"strays"},
        "d0": {"items"},
        "d1": {"items"},
    }


def test_nothing_means_the_default(bound: Router) -> None:
    """A bind that is asked for without a mapper or a clause."""
    with bound.sessionmaker()() as session:
        assert name_of(bound, session.get_bind()) == "by_default"
        assert name_of(bound, session.connection()) == "by_default"
        assert name_of(bound, session.get_bind(clause=select(func.abs(-1)))) == "by_default"


# -- clauses ------------------------------------------------------------------------------------


def test_core_tables_with_and_without_a_schema(bound: Router) -> None:
    """One name with a schema and without is two tables, in two databases."""
    with bound.sessionmaker().begin() as session:
        session.execute(insert(core), [{"id": 1}, {"id": 2}])
        session.execute(insert(Event.__table__).values(id=7))
        assert session.scalars(select(core.c.id)).all() == [1, 2]
        assert session.scalars(select(Event.__table__.c.id)).all() == [7]
        session.execute(update(core).where(core.c.id == 1).values(id=3))
        session.execute(delete(core).where(core.c.id == 2))
    with bound.engines["by_metadata"].connect() as connection:
        assert connection.execute(select(core)).scalars().all() == [3]


@pytest.mark.parametrize("mapped", [Invoice, Correction, Event, Stray])
def test_clauses_around_a_table(bound: Router, mapped: Any) -> None:
    """Aliases, subqueries, CTEs, unions and writes go where their table is."""
    other, table = aliased(mapped), mapped.__table__
    inner = select(mapped.id).subquery()
    nested = select(table.c.id).cte()
    clauses = [
        select(other),
        select(table.alias().c.id),
        select(inner),
        select(aliased(mapped, select(mapped).subquery())),
        select(nested),
        select(func.count()).select_from(mapped),
        select(select(func.max(mapped.id)).scalar_subquery()),
        select(mapped).where(mapped.id.in_(select(other.id))),
        select(mapped.id).union_all(select(other.id)),
        select(mapped).where(select(other.id).exists()),
    ]
    with bound.sessionmaker()() as session:
        session.add(mapped(id=5))
        session.flush()
        for clause in clauses:
            assert name_of(bound, session.get_bind(clause=clause)) == HOMES[mapped]
            assert len(session.execute(clause).all()) >= 1
        for write in (insert(mapped), update(mapped), delete(mapped)):
            assert name_of(bound, session.get_bind(clause=write)) == HOMES[mapped]


def test_clauses_over_two_databases(bound: Router) -> None:
    """No database is chosen for them; a read of both is exact, or refused."""
    both = select(Invoice.id).where(Invoice.id.in_(select(Log.id)))
    with bound.sessionmaker().begin() as session:
        session.add_all([Invoice(id=1), Invoice(id=2), Log(id=2), Log(id=3)])
    with bound.sessionmaker()() as session:
        with pytest.raises(RouterError, match=r"R303|R202"):
            session.get_bind(clause=both)
        assert scalars_or_refusal(session, both) in ([2], "R303")
        # The rows of a write are found first.
        session.execute(delete(Invoice).where(Invoice.id.in_(select(Log.id))))
        assert session.scalars(select(Invoice.id)).all() == [1]


def scalars_or_refusal(session: Session, statement: Any) -> list[Any] | str:
    """Return the first column of the rows, or the id of the error that refuses the statement."""
    try:
        return list(session.scalars(statement))
    except CrossShardError as error:
        return error.id


def test_joined_and_single_table_inheritance(bound: Router) -> None:
    """Rows of parents and children, in one table or two, live together and load as themselves."""
    with bound.sessionmaker().begin() as session:
        session.add_all([Document(id=1), Letter(id=2, sender="you"), Memo(id=3)])
    with bound.sessionmaker()() as session:
        kinds = [type(one) for one in session.scalars(select(Document).order_by(Document.id))]
        assert kinds == [Document, Letter, Memo]
        assert session.get_one(Letter, 2).sender == "you"
        assert session.scalars(select(Letter.sender)).all() == ["you"]
        assert session.scalar(select(func.count()).select_from(Memo)) == 1
        session.execute(update(Memo).values(kind="document"))
        assert session.scalars(select(Memo)).all() == []
        session.delete(session.get_one(Letter, 2))
        session.commit()
        assert session.scalars(select(Letter.id)).all() == []


def test_contradicting_mappers(make_databases: MakeDatabases) -> None:
    """A table whose mappers are bound to two keyspaces is bound to none of them."""
    binds = {"mappers": {f"{bindings.__name__}:Memo": "by_mapper"}}
    data = bound_map(make_databases("sqlite", len(NAMES) + 2), **binds)
    with Router.from_dict(data, metadata=METADATA) as router, router.sessionmaker()() as session:
        with pytest.raises(RoutingError, match=r"R209.*documents are bound to by_class and by_map"):
            session.get_bind(Document)
        session.add(Letter(id=1))
        with pytest.raises(RoutingError, match="R209"):
            session.flush()


def test_inheritance_over_two_databases(make_databases: MakeDatabases) -> None:
    """A row whose two tables live apart is not written, to none of them."""
    binds = {"mappers": {f"{bindings.__name__}:Document": "by_mapper"}, "classes": {}}
    data = bound_map(make_databases("sqlite", len(NAMES) + 2), **binds)
    with Router.from_dict(data, metadata=METADATA) as router, router.sessionmaker()() as session:
        router.create_all()
        session.add(Letter(id=1))
        with pytest.raises(RoutingError, match="R209"):
            session.flush()
        session.rollback()
        assert scalars_or_refusal(session, select(Letter)) in ([], "R303")
        session.add(Memo(id=2))
        session.commit()
        assert session.get_one(Memo, 2).kind == "memo"


# -- places that are named ----------------------------------------------------------------------


def test_text_with_bind_arguments(bound: Router) -> None:
    """Text goes where a mapper, a clause, a keyspace, a shard, a database or a bind says."""
    with bound.sessionmaker().begin() as session:
        session.add_all([Invoice(id=1), Item(id=3)])
    invoices, items = text("SELECT id FROM invoices"), text("SELECT id FROM items")
    engine = bound.engines["by_mapper"]
    with bound.sessionmaker()() as session:
        for where in (
            {"mapper": Invoice},
            {"clause": Invoice.__table__},
            {"clause": select(Invoice)},
            {"keyspace": "by_mapper"},
            {"database": "by_mapper"},
            {"bind": engine},
        ):
            assert session.scalars(invoices, bind_arguments=where).all() == [1]
            assert name_of(bound, session.connection(bind_arguments=where)) == "by_mapper"
        for where in (
            {"shard": "shop/s1"},
            {"keyspace": "shop", "shard_key": 3},
            {"mapper": Item, "shard_key": 3},
            {"database": "d1"},
            {"clause": select(Item).where(Item.id == 3)},
        ):
            assert session.scalars(items, bind_arguments=where).all() == [3]
            assert name_of(bound, session.connection(bind_arguments=where)) == "d1"


NO_PLACE: dict[str, tuple[dict[str, Any], str]] = {
    "sharded mapper": ({"mapper": Item}, "R202"),
    "sharded table": ({"clause": Item.__table__}, "R202"),
    "statement over all shards": ({"clause": select(Item)}, "R202"),
    "sharded keyspace": ({"keyspace": "shop"}, "R202"),
    "unknown keyspace": ({"keyspace": "nothing"}, "R206"),
    "unknown shard": ({"shard": "shop/s7"}, "R206"),
    "shard of no keyspace": ({"shard": "s1"}, "R206"),
    "unknown database": ({"database": "nothing"}, "R206"),
    "key of no keyspace": ({"shard_key": 3}, "R206"),
    "key of another type": ({"keyspace": "shop", "shard_key": "3"}, "R204"),
}


@pytest.mark.parametrize("what", NO_PLACE)
def test_places_that_are_none(bound: Router, what: str) -> None:
    """A place that is not one database is an error, for connections and text alike."""
    where, code = NO_PLACE[what]
    with bound.sessionmaker()() as session:
        with pytest.raises(RoutingError, match=code):
            session.connection(bind_arguments=where)
        with pytest.raises(RoutingError, match=f"{code}|R304"):
            session.execute(text("SELECT 1"), bind_arguments=where)


def test_a_bind_of_its_own(bound: Router, tmp_path: Path) -> None:
    """With `bind` or `binds` a session is a plain one, whatever the map says."""
    own = create_engine(f"sqlite:///{tmp_path / 'own.db'}", poolclass=NullPool)
    Base.metadata.tables["items"].create(own)
    for given in ({"bind": own}, {"binds": {Item: own}}):
        with bound.sessionmaker(**given)() as session:
            assert isinstance(session, RoutingSession)
            assert session.get_bind(Item) is own
            session.add_all([Item(id=1), Item(id=2)])
            session.flush()
            ordered = select(Item.id).order_by(Item.id.desc()).limit(1)
            assert session.scalars(ordered).one() == 2
            with pytest.raises(RoutingError, match="R206 the session was made without a router"):
                session.partition(1, keyspace="shop")
    with (
        bound.sessionmaker(binds={Item: own})() as session,
        pytest.raises(UnboundExecutionError, match="Could not locate a bind"),
    ):
        session.get_bind(Invoice)
    with bound.sessionmaker()() as session:
        assert session.scalars(select(Item), bind_arguments={"bind": own}).all() == []


# -- nothing applies ----------------------------------------------------------------------------


def test_what_nothing_binds(make_databases: MakeDatabases) -> None:
    """The error is SQLAlchemy's own kind, and says everything that was looked at."""
    loose = Table("loose", MetaData(), Column("id", Integer, primary_key=True))
    data = bound_map(make_databases("sqlite", len(NAMES) + 2), default=None)
    del data["binds"]["default"]
    with Router.from_dict(data, metadata=METADATA) as router, router.sessionmaker()() as session:
        stray = f"{bindings.__name__}:Stray"
        asks: list[Any] = [
            (
                lambda: session.get_bind(Stray),
                f"{bindings.__name__}:Stray",
                "'strays'",
                "'elsewhere'",
            ),
            (
                lambda: session.scalars(select(Stray)),
                f"{bindings.__name__}:Stray",
                "'strays'",
                "default",
            ),
            (lambda: session.get(Stray, 1), stray, "not set"),
            (lambda: (session.add(Stray(id=1)), session.flush()), "'strays'", "not set"),
            (lambda: session.execute(select(loose)), "no mapper", "'loose'", "has no name here"),
            (lambda: session.execute(insert(loose).values(id=1)), "no mapper", "'loose'"),
            (lambda: session.get_bind(clause=loose), "no mapper", "'loose'"),
            (lambda: session.connection(), "no default keyspace"),
            (lambda: session.execute(select(func.abs(1))), "no default keyspace"),
        ]
        for ask, *words in asks:
            with pytest.raises(UnboundExecutionError, match="R201") as caught:
                ask()
            assert isinstance(caught.value, RoutingError)
            assert [word for word in words if word not in str(caught.value)] == []
            session.rollback()
