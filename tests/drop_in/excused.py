"""Tests that cannot pass with our session, by a part of their name, and why."""

from __future__ import annotations

from collections.abc import Mapping

from tests.drop_in.sessions import Kind

_ALWAYS: Mapping[str, str] = {
    "test_scoping.py::ScopedSessionTest::test_attributes": "SQLAlchemy's registry has no "
    "`partition`, and the router's own is not tested by it",
}
_BESIDE = "binds a session beside its map, which R213 refuses"
_OF_THE_MAP = "the bind is given to the map, not to the session"
_ROUTED: Mapping[str, str] = {
    "test_bind.py::BindIntegrationTest::test_bind_arg": _BESIDE,
    "test_bind.py::BindIntegrationTest::test_bind_through_execute": _BESIDE,
    "test_bind.py::BindIntegrationTest::test_get_bind": _BESIDE,
    "test_bind.py::SessionBindTest::test_session_bind": _OF_THE_MAP,
    "test_bind.py::BindAttributeTest::test_bind_from_constructor": _OF_THE_MAP,
}

EXCUSED: Mapping[Kind, Mapping[str, str]] = {
    Kind.UNROUTED: _ALWAYS,
    Kind.ROUTED: {**_ALWAYS, **_ROUTED},
}
