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

_ONE_PHASE = "expects a prepare of the only database, which commits in one phase"
_PLACE = "expects the arguments of `get_bind()`, among which the router says where"
_LISTENS = "calls the listeners of `before_flush` without arguments; ours is among them"

_QUERIES = "test/orm/test_query.py::SessionBindTest"
_OF_GET_BIND = (
    "aggregate_fn aliased_entity_q binary_op boolean_op bulk_delete_fetch_sync "
    "bulk_delete_no_sync bulk_update_fetch_sync bulk_update_no_sync case cast column_property "
    "column_property_select count plain_table plain_table_count plain_table_select_from single_col "
    "single_col_from_subq single_entity_q sql_expr_bundle_cte_from_entity "
    "sql_expr_cte_from_entity sql_expr_entity_q sql_expr_exists_from_entity "
    "sql_expr_subquery_from_entity type_coerce"
).split()

_EVENTS: Mapping[str, str] = {
    "test/orm/test_events.py::SessionEventsTest"
    "::test_sessionmaker_gen_after_session_listen": _LISTENS,
}
_ROUTED: Mapping[str, str] = {
    f"{_BINDINGS}::BindIntegrationTest::test_bind_arg": _BESIDE,
    f"{_BINDINGS}::BindIntegrationTest::test_bind_through_execute": _BESIDE,
    f"{_BINDINGS}::BindIntegrationTest::test_get_bind": _BESIDE,
    f"{_BINDINGS}::SessionBindTest::test_session_bind": _OF_THE_MAP,
    f"{_BINDINGS}::BindAttributeTest::test_bind_from_constructor": _OF_THE_MAP,
    "test/ext/asyncio/test_session.py::AsyncSessionTest::test_init": _OF_THE_MAP,
    f"{_ASYNC_BINDINGS}::test_bind_from_constructor": _OF_THE_MAP,
    f"{_ASYNC_BINDINGS}::test_bind_mapper_table": _BESIDE,
    f"{_ASYNC_BINDINGS}::test_translate_binds_invalidated": _BESIDE,
    "test/ext/asyncio/test_scoping.py::AsyncScopedSessionTest::test_basic": _OF_THE_MAP,
    "test/orm/test_transaction.py::SessionTransactionTest::test_twophase": _BESIDE,
    "test/orm/test_transaction.py::TwoPhaseTest::test_rollback_on_prepare_failure": _ONE_PHASE,
    **{f"{_QUERIES}::test_{name}": _PLACE for name in _OF_GET_BIND},
}

EXCUSED: Mapping[Kind, Mapping[str, str]] = {
    Kind.UNROUTED: _EVENTS,
    Kind.ROUTED: {**_EVENTS, **_ROUTED},
}
