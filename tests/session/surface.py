"""What can be done with a session: a case for each of its public names.

A case is given a session, a class whose rows 1 to 8 are there, and the bind arguments by which
a statement without a table says where it goes.  It returns what it has seen, as plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import event, func, insert, inspect, select, text
from sqlalchemy.orm import close_all_sessions

from tests.session.surface_objects import (
    M,
    Place,
    S,
    add,
    add_all,
    autoflush,
    bulk_insert_mappings,
    bulk_save_objects,
    bulk_update_mappings,
    contains,
    delete,
    delete_all,
    enable_relationship_loading,
    expire,
    expire_all,
    expunge,
    expunge_all,
    flush,
    identity_key,
    identity_map,
    is_modified,
    iterates,
    merge,
    merge_all,
    names,
    no_autoflush,
    object_session,
    refresh,
    sets,
)

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


def own(s: S) -> S:
    """Return the session of a scope, or the session itself."""
    return s() if callable(s) else s


def caught(call: Callable[[], object]) -> str:
    """Return the name of the error that `call` raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error).__name__
    return "no error"


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
