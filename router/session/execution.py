"""One call of a session's `execute`, ready to be made on any database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router.hooks.loaders import loading_options

if TYPE_CHECKING:
    from router.route.target import Destination
    from router.session.routing import Routing


@dataclass(frozen=True, slots=True)
class Execution:
    """What `Session.execute` was given, and the method of SQLAlchemy's session to give it to."""

    run: Callable[..., Any]
    statement: Any
    params: Any
    options: Mapping[str, Any]
    arguments: Mapping[str, Any]
    extra: Mapping[str, Any]

    def unrouted(self) -> Any:
        """Execute as given."""
        return self.run(
            self.statement,
            self.params,
            execution_options=self.options,
            bind_arguments=self.arguments,
            **self.extra,
        )

    def on(
        self,
        destination: Destination,
        routing: Routing,
        *,
        token: bool = False,
        statement: Any = None,
        params: Any = None,
        **options: Any,
    ) -> Any:
        """Execute at `destination`, perhaps with another statement, parameters or options."""
        if token and destination.shard is not None:
            options["identity_token"] = destination.shard
        return self.run(
            self.statement if statement is None else statement,
            self.params if params is None else params,
            execution_options={**self.options, **options} if options else self.options,
            bind_arguments={**self.arguments, **routing.binds_of(destination)},
            **self.extra,
        )

    def write_on(
        self, destination: Destination, routing: Routing, *, token: bool = False, **options: Any
    ) -> Any:
        """Execute a write at `destination`."""
        routing.writes.note(destination.database)
        if token and destination.shard is not None:
            options.update(loading_options(destination.shard, self.options))
        with routing.writes.aiming(destination.database):
            return self.on(destination, routing, token=token, **options)
