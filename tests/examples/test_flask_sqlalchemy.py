"""Flask-SQLAlchemy's models and ``db.session``: bind keys are places of the map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, abort
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, event, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from werkzeug.exceptions import NotFound

from router import Router, RoutingError, RoutingSession
from tests.conftest import MakeDatabases


class FlaskRoutingSession(RoutingSession):
    """The class of `db.session`."""

    def __init__(self, db: SQLAlchemy, **options: Any) -> None:
        # Looked up now, since models come before the router.
        super().__init__(router=db.app_router, **options)


class Base(DeclarativeBase):
    """Base of the models; Flask-SQLAlchemy adds to it."""


db = SQLAlchemy(model_class=Base, session_options={"class_": FlaskRoutingSession})


class Customer(db.Model):
    """Of no bind key: sharded by its primary key."""

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    purchases: Mapped[list[Purchase]] = relationship(cascade="all, delete-orphan")


class Purchase(db.Model):
    """Of no bind key: with its customer."""

    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class User(db.Model):
    """Of a bind key that the map has as a keyspace."""

    __bind_key__ = "auth"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Visit(db.Model):
    """Of another one."""

    __bind_key__ = "metrics"
    id: Mapped[int] = mapped_column(primary_key=True)
    page: Mapped[str]


@pytest.fixture
def router(make_databases: MakeDatabases, dialect: str) -> Iterator[Router]:
    """A router over two shards and two more databases, with the tables made."""
    names = ("d0", "d1", "auth", "metrics")
    urls = make_databases(dialect, len(names))
    data = {
        "version": 1,
        "databases": {name: {"url": url} for name, url in zip(names, urls, strict=True)},
        "keyspaces": {
            "shop": {
                "shards": {"s0": "d0", "s1": "d1"},
                "sharding": {"function": "modulo"},
                "tables": {"customer": "id", "purchase": "customer_id"},
            },
            "users": {"database": "auth"},
            "numbers": {"database": "metrics"},
        },
        "binds": {"metadata": {"auth": "users", "metrics": "numbers"}},
        "transactions": {"two_phase": dialect != "sqlite"},
    }
    metadata = {key or "default": one for key, one in db.metadatas.items()}
    with Router.from_dict(data, metadata=metadata) as router:
        router.create_all()
        yield router


@pytest.fixture
def app(router: Router, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An application over the router."""
    app = Flask(__name__)
    # Flask-SQLAlchemy wants one, and does not connect to it.
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(app)
    monkeypatch.setattr(db, "app_router", router, raising=False)
    return app


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    """Its context, for tests that make no requests."""
    with app.app_context():
        yield


pytestmark = pytest.mark.parametrize("dialect", ["sqlite", "postgresql"], indirect=True)


def fill() -> None:
    """Write to all four databases, in one transaction."""
    for number in range(1, 8):
        purchases = [Purchase(number=one) for one in range(number)]
        db.session.add(Customer(id=number, name=f"c{number}", purchases=purchases))
    db.session.add_all([User(name="ada"), Visit(page="/")])
    db.session.commit()


def test_tables_are_where_the_map_has_their_bind_keys(router: Router) -> None:
    """Each in its database or its shards, and nowhere else; the map's names are what counts."""
    tables = {
        name: {one for one in inspect(engine).get_table_names() if not one.startswith("router_")}
        for name, engine in router.engines.items()
    }
    sharded = {"customer", "purchase"}
    assert tables == {"d0": sharded, "d1": sharded, "auth": {"user"}, "metrics": {"visit"}}


def test_rows_of_all_bind_keys_commit_together(context: None, router: Router) -> None:
    """`db.session` writes each row where its model's bind key and shard key say."""
    fill()
    counts = {}
    for name, model in (("d0", Customer), ("d1", Customer), ("auth", User), ("metrics", Visit)):
        with router.engines[name].connect() as connection:
            counts[name] = connection.scalar(select(func.count()).select_from(model))
    assert counts == {"d0": 3, "d1": 4, "auth": 1, "metrics": 1}


def test_flask_sqlalchemys_own_helpers(context: None) -> None:
    """Pagination, `get_or_404`, `one_or_404` and the legacy query see all shards."""
    fill()
    page = db.paginate(select(Customer).order_by(Customer.id.desc()), page=2, per_page=3)
    assert (page.total, [one.id for one in page.items]) == (7, [4, 3, 2])
    assert db.get_or_404(Customer, 5).name == "c5"
    with pytest.raises(NotFound):
        db.get_or_404(Customer, 99)
    assert db.one_or_404(select(User)).name == "ada"
    assert Customer.query.filter_by(name="c6").one().id == 6
    assert Purchase.query.count() == 28


def test_the_bind_keys_engines_are_not_used(context: None) -> None:
    """Everything goes by the router: the configured URI sees no connection."""
    opened: list[object] = []
    event.listen(db.engine, "connect", lambda *connection: opened.append(connection))
    fill()
    assert opened == []


def test_the_session_ends_with_the_request(app: Flask) -> None:
    """Flask-SQLAlchemy's own teardown removes it, and what was not committed is gone."""

    @app.get("/forget")
    def forget() -> str:
        db.session.add(User(name="lost"))
        db.session.flush()
        abort(400)

    @app.get("/names")
    def names() -> list[str]:
        return list(db.session.scalars(select(User.name)))

    client = app.test_client()
    assert client.get("/forget").status_code == 400
    assert client.get("/names").json == []


def test_partitions_of_a_request(context: None) -> None:
    """`db.session()` is a session of ours: it can be pinned to a shard."""
    fill()
    with db.session().partition(2, keyspace="shop"):
        assert sorted(db.session.scalars(select(Customer.id))) == [2, 4, 6]
        with pytest.raises(RoutingError, match="R208"):
            db.session.get(Customer, 1)
