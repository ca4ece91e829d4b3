"""Routing after the handlers of an application have changed a statement.

Leans on the `_add_event` of `Session.execute`, which SQLAlchemy's own tests of sharding use,
on `ORMExecuteState.invoke_statement`, and on `Session._execute_internal`, which that calls.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import ORMExecuteState


def route_last(routing: Any, state: ORMExecuteState) -> Any:
    """Route the statement that the other handlers of ``do_orm_execute`` have left."""

    def run(
        statement: Any,
        params: Any = None,
        *,
        execution_options: Any,
        bind_arguments: Any,
    ) -> Any:
        if isinstance(params, (list, tuple)):
            return _with_rows(state, statement, params, execution_options, bind_arguments)
        return state.invoke_statement(
            statement=statement,
            params=params,
            execution_options=execution_options,
            bind_arguments=bind_arguments,
        )

    return routing.dispatch_to(
        run, state.statement, state.parameters, state.execution_options, state.bind_arguments
    )


def _with_rows(
    state: ORMExecuteState, statement: Any, rows: Any, options: Any, arguments: Any
) -> Any:
    """Execute with other rows than were given, of which SQLAlchemy wants as many."""
    execute: Any = state.session._execute_internal
    return execute(
        statement,
        rows,
        execution_options=state.execution_options.union(options),
        bind_arguments={**state.bind_arguments, **arguments, "_sa_skip_events": True},
        _parent_execute_state=state,
    )
