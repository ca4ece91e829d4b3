"""Tests that cannot pass with our session, by a part of their name, and why."""

from __future__ import annotations

from collections.abc import Mapping

from tests.drop_in.sessions import Kind

_ALWAYS: Mapping[str, str] = {
    "test_scoping.py::ScopedSessionTest::test_attributes": "SQLAlchemy's registry has no "
    "`partition`, and the router's own is not tested by it",
}
_ROUTED: Mapping[str, str] = {
    "test_bind.py": "binds a session to other databases than those of its map, which R213 refuses",
}

EXCUSED: Mapping[Kind, Mapping[str, str]] = {
    Kind.UNROUTED: _ALWAYS,
    Kind.ROUTED: {**_ALWAYS, **_ROUTED},
}
