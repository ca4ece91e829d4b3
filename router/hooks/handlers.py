"""Routing after the handlers of an application have changed a statement.

Leans on the `_add_event` of `Session.execute`, which SQLAlchemy's own tests of sharding use,
and on `ORMExecuteState.invoke_statement`.  Checked against 2.0.40 and 2.1.9.
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
        return state.invoke_statement(
            statement=statement,
            params=params,
            execution_options=execution_options,
            bind_arguments=bind_arguments,
        )

    return routing.dispatch_to(
        run, state.statement, state.parameters, state.execution_options, state.bind_arguments
    )
