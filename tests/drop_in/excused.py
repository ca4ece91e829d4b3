"""Tests that cannot pass with our session, by their exact name, and why.

A name without parameters stands for the test with any.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.drop_in.sessions import Kind

_BINDINGS = "test/orm/test_bind.py"
_ASYNC_BINDINGS = "test/ext/asyncio/test_session.py::AsyncBindAttributeTest"

_BESIDE = "binds a class or table beside the map, which R213 refuses"
_OF_THE_MAP = "asks for `session.bind`, but the bind was given to the map"

_ROUTED: Mapping[str, str] = {
    f"{_BINDINGS}::BindIntegrationTest::test_bind_arg": _BESIDE,
    f"{_BINDINGS}::BindIntegrationTest::test_bind_through_execute": _BESIDE,
    f"{_BINDINGS}::BindIntegrationTest::test_get_bind": _BESIDE,
    f"{_BINDINGS}::SessionBindTest::test_session_bind": _OF_THE_MAP,
    f"{_BINDINGS}::BindAttributeTest::test_bind_from_constructor": _OF_THE_MAP,
    f"{_ASYNC_BINDINGS}::test_bind_from_constructor": _OF_THE_MAP,
    f"{_ASYNC_BINDINGS}::test_bind_mapper_table": _BESIDE,
    f"{_ASYNC_BINDINGS}::test_translate_binds_invalidated": _BESIDE,
    "test/ext/asyncio/test_scoping.py::AsyncScopedSessionTest::test_basic": _OF_THE_MAP,
}

EXCUSED: Mapping[Kind, Mapping[str, str]] = {Kind.UNROUTED: {}, Kind.ROUTED: _ROUTED}
