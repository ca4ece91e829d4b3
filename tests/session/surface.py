"""What can be done with a session: a case for each of its public names.

A case is given a session, a class whose rows 1 to 8 are there, and the bind arguments by which
a statement without a table says where it goes.  It returns what it has seen, as plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import event, func, insert, inspect, select, text
from sqlalchemy.orm import close_all_sessions

S = Any
M = Any
Place = Mapping[str, Any]
Case = Callable[[S, M, Place], object]

ROWS = range(1, 9)
EVENTS = (
    "before_flush",
    "after_flush",
    "after_flush_postexec",
    "before_commit",
    "after_commit",
    "after_rollback",
    "after_soft_rollback",
    "pending_to_persistent",
    "persistent_to_transient",
)


def names(session: S, mapped: M) -> list[str]:
    """Return all names that a query finds."""
    return list(session.scalars(select(mapped.name).order_by(mapped.id)))


def own(s: S) -> Any:
    """Return the session of a scope, or the session itself."""
    return s() if callable(s) else s


def caught(call: Callable[[], object]) -> str:
    """Return the name of the error that `call` raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error).__name__
    return "no error"


# -- objects in and out ------------------------------------------------------------------------


def add(s: S, m: M, place: Place) -> object:
    """One object."""
    one = m(id=9, name="nine")
    s.add(one)
    return one in s, names(s, m), inspect(one).persistent


def add_all(s: S, m: M, place: Place) -> object:
    """Several objects."""
    s.add_all(m(id=at, name=f"x{at}") for at in range(9, 15))
    return names(s, m)


def delete(s: S, m: M, place: Place) -> object:
    """One object."""
    one = s.get(m, 3)
    s.delete(one)
    return one in s.deleted, names(s, m), one in s


def delete_all(s: S, m: M, place: Place) -> object:
    """Several objects."""
    s.delete_all(s.scalars(select(m).where(m.id < 5)).all())
    return len(s.deleted), names(s, m)


def expunge(s: S, m: M, place: Place) -> object:
    """An object is let go."""
    one = s.get(m, 1)
    s.expunge(one)
    return one in s, inspect(one).detached, s.get(m, 1) is one


def expunge_all(s: S, m: M, place: Place) -> object:
    """All objects are."""
    loaded = s.scalars(select(m)).all()
    s.expunge_all()
    return len(list(s)), [one in s for one in loaded]


def merge(s: S, m: M, place: Place) -> object:
    """The state of an object from elsewhere is taken over, or it is new."""
    known, new = s.merge(m(id=2, name="two")), s.merge(m(id=20, name="twenty"))
    return known is s.get(m, 2), known in s.dirty, new in s.new, names(s, m)


def merge_all(s: S, m: M, place: Place) -> object:
    """Several at once."""
    s.merge_all([m(id=at, name=f"m{at}") for at in (2, 7, 20)])
    return names(s, m)


def contains(s: S, m: M, place: Place) -> object:
    """By ``in``."""
    one = s.get(m, 1)
    return one in s, m(id=1, name="x") in s


def iterates(s: S, m: M, place: Place) -> object:
    """Over all objects."""
    loaded = set(s.scalars(select(m)))
    s.add(m(id=9, name="nine"))
    return loaded < set(s), len(list(s))


def identity_map(s: S, m: M, place: Place) -> object:
    """Objects by identity."""
    loaded = s.scalars(select(m)).all()
    return len(s.identity_map), set(s.identity_map.values()) == set(loaded)


def identity_key(s: S, m: M, place: Place) -> object:
    """Of a class and a key, and of an object."""
    one = s.get(m, 1)
    return s.identity_key(m, 1)[:2], s.identity_key(instance=one)[:2]


def object_session(s: S, m: M, place: Place) -> object:
    """The session of an object."""
    return s.object_session(s.get(m, 1)) is not None, s.object_session(m(id=1, name="x"))


def sets(s: S, m: M, place: Place) -> object:
    """What is new, dirty and deleted."""
    new, changed, gone = m(id=9, name="nine"), s.get(m, 1), s.get(m, 2)
    s.add(new)
    changed.name = "changed"
    s.delete(gone)
    before = list(s.new) == [new], changed in s.dirty, list(s.deleted) == [gone]
    s.flush()
    return before, len(s.new), len(s.dirty), len(s.deleted), names(s, m)


def is_modified(s: S, m: M, place: Place) -> object:
    """Whether there is something to flush."""
    one = s.get(m, 1)
    before = s.is_modified(one)
    one.name = "changed"
    return before, s.is_modified(one), s.is_modified(one, include_collections=False)


# -- the state of objects ----------------------------------------------------------------------


def expire(s: S, m: M, place: Place) -> object:
    """Attributes of one object are loaded anew."""
    one = s.get(m, 1)
    one.name = "lost"
    s.expire(one, ["name"])
    return "name" in inspect(one).unloaded, one.name


def expire_all(s: S, m: M, place: Place) -> object:
    """Those of all objects are."""
    loaded = s.scalars(select(m).order_by(m.id)).all()
    s.expire_all()
    return [bool(inspect(one).expired_attributes) for one in loaded], [one.name for one in loaded]


def refresh(s: S, m: M, place: Place) -> object:
    """One object is loaded anew at once, and is flushed before."""
    one = s.get(m, 4)
    one.name = "kept"
    s.flush()
    one.__dict__["name"] = "lost"
    s.refresh(one)
    first = one.name
    s.refresh(one, ["name"], with_for_update=True)
    return first, one.name


def flush(s: S, m: M, place: Place) -> object:
    """What has changed is written."""
    s.get(m, 5).name = "five"
    s.add(m(id=9, name="nine"))
    with s.no_autoflush:
        before = names(s, m)
    s.flush()
    return before, names(s, m)


def no_autoflush(s: S, m: M, place: Place) -> object:
    """Nothing is flushed by queries in it."""
    s.add(m(id=9, name="nine"))
    with s.no_autoflush as same:
        return same is s or same.no_autoflush is not None, names(s, m), s.autoflush


def autoflush(s: S, m: M, place: Place) -> object:
    """Queries flush, unless told otherwise."""
    s.add(m(id=9, name="nine"))
    without = s.scalars(select(m.id), execution_options={"autoflush": False}).all()
    return s.autoflush, len(without), len(names(s, m))


def enable_relationship_loading(s: S, m: M, place: Place) -> object:
    """An object that is not in the database is associated with the session."""
    one = m(id=99, name="x")
    s.enable_relationship_loading(one)
    return one in s, s.object_session(one) is not None


def bulk_insert_mappings(s: S, m: M, place: Place) -> object:
    """Rows from dictionaries."""
    s.bulk_insert_mappings(m, [{"id": at, "name": f"b{at}"} for at in range(10, 20)])
    return names(s, m)


def bulk_update_mappings(s: S, m: M, place: Place) -> object:
    """Rows changed by dictionaries."""
    s.bulk_update_mappings(m, [{"id": at, "name": f"u{at}"} for at in (1, 4, 8)])
    return names(s, m)


def bulk_save_objects(s: S, m: M, place: Place) -> object:
    """Rows from objects."""
    s.bulk_save_objects([m(id=at, name=f"o{at}") for at in range(10, 20)])
    return names(s, m), len(s.identity_map)


# -- statements --------------------------------------------------------------------------------


def execute(s: S, m: M, place: Place) -> object:
    """Reads and writes."""
    done = s.execute(insert(m), [{"id": at, "name": f"e{at}"} for at in (10, 11)])
    rows = s.execute(select(m.id, m.name).where(m.id > 6).order_by(m.id.desc())).all()
    return type(done).__name__ != "", rows, s.execute(text("SELECT 7"), bind_arguments=place).all()


def scalar(s: S, m: M, place: Place) -> object:
    """One value."""
    return s.scalar(select(func.count()).select_from(m)), s.scalar(select(m).where(m.id == 77))


def scalars(s: S, m: M, place: Place) -> object:
    """One column."""
    found = s.scalars(select(m).where(m.id.in_([2, 5, 77])).order_by(m.id)).all()
    return [(one.id, one.name) for one in found]


def get(s: S, m: M, place: Place) -> object:
    """By primary key: once from the database, then from the session."""
    one = s.get(m, 1)
    return one.name, s.get(m, 1) is one, s.get(m, 77), s.get(m, {"id": 2}).name


def get_one(s: S, m: M, place: Place) -> object:
    """What is not there is an error."""
    return s.get_one(m, 1).name, caught(lambda: s.get_one(m, 77))


def query(s: S, m: M, place: Place) -> object:
    """The interface of earlier versions."""
    found = s.query(m).filter(m.id > 2).order_by(m.id).limit(3)
    changed = s.query(m).filter_by(id=1).update({"name": "q"})
    gone = s.query(m).filter(m.id == 2).delete()
    return [one.name for one in found], s.query(m).count(), changed, gone, names(s, m)


def get_bind(s: S, m: M, place: Place) -> object:
    """An engine."""
    return type(s.get_bind(**place)).__name__


def connection(s: S, m: M, place: Place) -> object:
    """The one of the transaction."""
    connection = s.connection(bind_arguments=place)
    again = s.connection(bind_arguments=place)
    return connection is again, connection.in_transaction(), own(s).in_transaction()


# -- transactions ------------------------------------------------------------------------------


def begin(s: S, m: M, place: Place) -> object:
    """Commits at the end of the block, or rolls back."""
    with s.begin():
        s.add(m(id=9, name="nine"))

    def fails() -> None:
        with s.begin():
            s.add(m(id=10, name="ten"))
            s.flush()
            raise ValueError

    error = caught(fails)
    return error, names(s, m), caught(s.begin)


def begin_nested(s: S, m: M, place: Place) -> object:
    """A savepoint, on every database."""
    s.add(m(id=9, name="nine"))
    with s.begin_nested() as kept:
        s.add_all(m(id=at, name=f"n{at}") for at in range(10, 14))
        inside = own(s).in_nested_transaction(), own(s).get_nested_transaction() is kept
    lost = s.begin_nested()
    s.add_all(m(id=at, name=f"n{at}") for at in range(20, 24))
    s.flush()
    lost.rollback()
    s.commit()
    return inside, own(s).in_nested_transaction(), own(s).get_nested_transaction(), names(s, m)


def commit(s: S, m: M, place: Place) -> object:
    """What was done stays; objects are expired."""
    one = s.get(m, 1)
    one.name = "committed"
    s.commit()
    return bool(inspect(one).expired_attributes), own(s).in_transaction(), one.name


def rollback(s: S, m: M, place: Place) -> object:
    """What was done is undone, on objects too."""
    one, new = s.get(m, 1), m(id=9, name="nine")
    one.name = "lost"
    s.add(new)
    s.flush()
    s.rollback()
    return one.name, new in s, names(s, m)


def close(s: S, m: M, place: Place) -> object:
    """Everything is let go; the session can be used again."""
    one = s.get(m, 1)
    s.add(m(id=9, name="nine"))
    s.flush()
    s.close()
    return own(s).in_transaction(), inspect(one).detached, names(s, m)


def reset(s: S, m: M, place: Place) -> object:
    """As `close`."""
    one = s.get(m, 1)
    s.reset()
    return own(s).in_transaction(), inspect(one).detached, names(s, m)


def invalidate(s: S, m: M, place: Place) -> object:
    """Connections are thrown away."""
    s.get(m, 1)
    s.invalidate()
    return own(s).in_transaction(), names(s, m)


def in_transaction(s: S, m: M, place: Place) -> object:
    """From the first statement on."""
    before = own(s).in_transaction(), own(s).get_transaction() is None
    s.get(m, 1)
    return before, own(s).in_transaction(), own(s).get_transaction() is not None, s.is_active


def is_active(s: S, m: M, place: Place) -> object:
    """Not after an error of a flush in a savepoint, until it is rolled back."""
    s.add(m(id=1, name="again"))
    error = caught(s.flush)
    after = s.is_active
    s.rollback()
    return error, after, s.is_active, names(s, m)


# -- settings ----------------------------------------------------------------------------------


def settings(s: S, m: M, place: Place) -> object:
    """What the constructor was given, or its defaults."""
    session = own(s)
    kept = ("expire_on_commit", "autoflush", "autobegin", "enable_baked_queries", "twophase")
    return [getattr(session, name) for name in kept], session.join_transaction_mode


def info(s: S, m: M, place: Place) -> object:
    """A dictionary for the application."""
    s.info["key"] = 7
    return dict(s.info)


def dispatch(s: S, m: M, place: Place) -> object:
    """Events of the session: each is heard once, in this order."""
    session, heard = own(s), []
    for name in EVENTS:
        event.listen(session, name, lambda *given, name=name: heard.append(name))
    session.add(m(id=9, name="nine"))
    session.commit()
    session.add(m(id=10, name="ten"))
    session.flush()
    session.rollback()
    return heard


def close_all(s: S, m: M, place: Place) -> object:
    """All sessions of the process are."""
    one = s.get(m, 1)
    close_all_sessions()
    return one in s, own(s).in_transaction()


def hash_key(s: S, m: M, place: Place) -> object:
    """A number of the session's own."""
    session = own(s)
    return isinstance(session.hash_key, int)


def execution_options(s: S, m: M, place: Place) -> object:
    """Options for all statements of the session."""
    session = own(s)
    return dict(session.execution_options or {})


def connection_callable(s: S, m: M, place: Place) -> object:
    """None, where flushes ask the session itself."""
    session = own(s)
    return session.connection_callable


CASES: Mapping[str, Case] = {
    "__contains__": contains,
    "__iter__": iterates,
    "add": add,
    "add_all": add_all,
    "autobegin": settings,
    "autoflush": autoflush,
    "begin": begin,
    "begin_nested": begin_nested,
    "bulk_insert_mappings": bulk_insert_mappings,
    "bulk_save_objects": bulk_save_objects,
    "bulk_update_mappings": bulk_update_mappings,
    "close": close,
    "close_all": close_all,
    "commit": commit,
    "connection": connection,
    "connection_callable": connection_callable,
    "delete": delete,
    "delete_all": delete_all,
    "deleted": sets,
    "dirty": sets,
    "dispatch": dispatch,
    "enable_baked_queries": settings,
    "enable_relationship_loading": enable_relationship_loading,
    "execute": execute,
    "execution_options": execution_options,
    "expire": expire,
    "expire_all": expire_all,
    "expire_on_commit": settings,
    "expunge": expunge,
    "expunge_all": expunge_all,
    "flush": flush,
    "get": get,
    "get_bind": get_bind,
    "get_nested_transaction": begin_nested,
    "get_one": get_one,
    "get_transaction": in_transaction,
    "hash_key": hash_key,
    "identity_key": identity_key,
    "identity_map": identity_map,
    "in_nested_transaction": begin_nested,
    "in_transaction": in_transaction,
    "info": info,
    "invalidate": invalidate,
    "is_active": is_active,
    "is_modified": is_modified,
    "join_transaction_mode": settings,
    "merge": merge,
    "merge_all": merge_all,
    "new": sets,
    "no_autoflush": no_autoflush,
    "object_session": object_session,
    "query": query,
    "refresh": refresh,
    "reset": reset,
    "rollback": rollback,
    "scalar": scalar,
    "scalars": scalars,
    "twophase": settings,
}
"""Public name: its case."""

ELSEWHERE: Mapping[str, str] = {
    "bind": "test_surface.py::test_a_session_that_does_not_route",
    "bind_mapper": "test_surface.py::test_a_session_that_does_not_route",
    "bind_table": "test_surface.py::test_a_session_that_does_not_route",
    "binds": "test_surface.py::test_a_session_that_does_not_route",
    "prepare": "test_commit.py::test_prepare_savepoints_and_rollback",
    "configure": "test_registry.py::test_it_is_a_scoped_session",
    "query_property": "test_registry.py::test_it_is_a_scoped_session",
    "registry": "test_registry.py::test_it_is_a_scoped_session",
    "remove": "test_registry.py::test_it_is_a_scoped_session",
    "session_factory": "test_registry.py::test_it_is_a_scoped_session",
}
"""Public name: the test that compares nothing, and says what must hold."""
