"""Tests that cannot pass with our session, by their exact name, and why.

A name without parameters stands for the test with any.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.drop_in.sessions import Kind

_BINDINGS = "test/orm/test_bind.py"

_OURS = "our `scoped_session` has `partition` as well; the test lists what SQLAlchemy's has"
_BESIDE = "binds a class beside the map, which R213 refuses"
_OF_THE_MAP = "asks for `session.bind`, but the bind was given to the map"

_ALWAYS: Mapping[str, str] = {
    "test/orm/test_scoping.py::ScopedSessionTest::test_attributes": _OURS,
}
_ROUTED: Mapping[str, str] = {
    f"{_BINDINGS}::BindIntegrationTest::test_bind_arg": _BESIDE,
    f"{_BINDINGS}::BindIntegrationTest::test_bind_through_execute": _BESIDE,
    f"{_BINDINGS}::BindIntegrationTest::test_get_bind": _BESIDE,
    f"{_BINDINGS}::SessionBindTest::test_session_bind": _OF_THE_MAP,
    f"{_BINDINGS}::BindAttributeTest::test_bind_from_constructor": _OF_THE_MAP,
}

EXCUSED: Mapping[Kind, Mapping[str, str]] = {
    Kind.UNROUTED: _ALWAYS,
    Kind.ROUTED: {**_ALWAYS, **_ROUTED},
}
