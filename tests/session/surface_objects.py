"""What can be done with the objects of a session: cases of `tests.session.surface`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import inspect, select

S = Any
M = Any
Place = Mapping[str, Any]


def names(session: S, mapped: M) -> list[str]:
    """Return all names that a query finds."""
    return list(session.scalars(select(mapped.name).order_by(mapped.id)))


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
