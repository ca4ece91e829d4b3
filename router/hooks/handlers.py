"""Routing after the handlers of an application have changed a statement.

Leans on the `_add_event` of `Session.execute`, which SQLAlchemy's own tests of sharding use, on
the `_update_execution_options` of `ORMExecuteState`, which 2.0.40 leaves unset, and on
`Session._execute_internal`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import ORMExecuteState


def route_last(routing: Any, given: Mapping[str, Any], state: ORMExecuteState) -> Any:
    """Route the statement that the other handlers of ``do_orm_execute`` have left.

    Parameters
    ----------
    given:
        The execution options that `Session.execute` was called with.
    """
    execute: Any = state.session._execute_internal

    # Not `state.invoke_statement()`: it adds the options of this execution as they were when
    # the handlers were called, and the parameters to those that were there before.
    def run(
        statement: Any,
        params: Any = None,
        *,
        execution_options: Any,
        bind_arguments: Any,
    ) -> Any:
        return execute(
            statement,
            params,
            execution_options=execution_options,
            bind_arguments={**state.bind_arguments, **bind_arguments, "_sa_skip_events": True},
            _parent_execute_state=state,
        )

    options = _options(given, state)
    return routing.dispatch_to(
        run, state.statement, state.parameters, options, state.bind_arguments
    )


def _options(given: Mapping[str, Any], state: ORMExecuteState) -> Mapping[str, Any]:
    """Return the execution options that SQLAlchemy would go on with."""
    updates: Mapping[str, Any] | None = getattr(state, "_update_execution_options", None)
    return state.local_execution_options if updates is None else {**given, **updates}
