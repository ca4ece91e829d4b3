"""One call of a session's `execute`, ready to be made on any database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from router.hooks.loaders import autoflushes, loading_options, statement_options
from router.hooks.mappers import is_orm
from router.replicas.roles import Reading

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
    reading: Reading | None = None
    """Why it may go to a replica; None if it may not."""

    def of(self, statement: Any, *params: Any) -> Execution:
        """Return the same execution of another statement, perhaps with other parameters."""
        return replace(self, statement=statement, params=params[0] if params else self.params)

    def under(self, options: Mapping[str, Any]) -> Execution:
        """Return the same execution with other execution options."""
        return replace(self, options=options)

    def reading_as(self, reading: Reading) -> Execution:
        """Return the same execution, which may go to a replica."""
        return replace(self, reading=reading)

    def unrouted(self) -> Any:
        """Execute as given."""
        return self.run(
            self.statement,
            self.params,
            execution_options=self.options,
            bind_arguments=self.arguments,
            **self.extra,
        )

    @property
    def seconds(self) -> float | None:
        """The time that each of several shards has to answer, if there is a limit."""
        given = {**statement_options(self.statement), **self.options}
        return given.get("shard_timeout")

    def flushed(self, session: Any) -> dict[str, Any]:
        """Flush as `Session.execute` would, and return options with which it will not again.

        Done before the execution is made in several places, so that all of them see it.
        """
        if is_orm(self.statement) and autoflushes(self.statement, self.options):
            session._autoflush()
            return {"autoflush": False}
        return {}

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
        call = partial(
            self.run,
            self.statement if statement is None else statement,
            self.params if params is None else params,
            execution_options={**self.options, **options} if options else self.options,
            **self.extra,
        )
        arguments = {**self.arguments, **routing.binds_of(destination)}
        if self.reading is not None and routing.readers is not None:
            place = destination.database, self.reading
            return routing.readers.read(place, call, arguments, self.seconds)
        return call(bind_arguments=arguments)

    def write_on(
        self, destination: Destination, routing: Routing, *, token: bool = False, **options: Any
    ) -> Any:
        """Execute a write at `destination`."""
        routing.writes.note(destination.database)
        if token and destination.shard is not None:
            options.update(loading_options(destination.shard, self.options))
        with routing.writes.aiming(destination.database):
            return self.on(destination, routing, token=token, **options)
