"""What a session over a map with replicas can say of its reads, and what it has to see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from router.errors import RoutingError
from router.replicas.roles import Role
from router.session.partition import Using

if TYPE_CHECKING:
    from router.session.routing import Routing


class ReadsReplicas(Session):
    """The part of `RoutingSession` that knows of replicas."""

    _routing: Routing | None

    def using(self, role: str) -> Using:
        """Read from servers of a role, ``"primary"`` or ``"replica"``, while the context lasts.

        ``"primary"`` reads what is there now.  ``"replica"`` declares that all statements are
        reads, `text()` included; what is seen to write goes to the primary all the same, and on
        a replica nothing can be written.  A transaction that has written reads from primaries
        in either case.

        Raises
        ------
        RoutingError
            There is no such role.

        >>> with session.using(role="primary"):
        ...     session.get(Account, 7)
        """
        routing = self._require_routing()
        return Using(lambda: routing.pins, Role.named(role))

    def token(self) -> str | None:
        """Return what another session has to be given in order to see what this one wrote.

        That includes what this one was given by `after`.  It is None if there is nothing to
        see, or if no database that was written to has replicas.  The databases are asked how
        far they are, unless they have been asked since the last commit.
        """
        readers = self._require_routing().readers
        return readers.token() if readers is not None else None

    def after(self, token: str | None) -> None:
        """Read no replica that has not yet seen what the session of `token` wrote.

        Such reads wait a moment, then another replica answers, or the primary.  Databases that
        the map does not have are left out.  None, or an empty text, says nothing.

        Raises
        ------
        RoutingError
            It is no token.
        """
        if token:
            readers = self._require_routing().readers
            if readers is not None:
                readers.after(token)

    def delete(self, instance: object) -> None:
        """Mark an object as deleted; see `Session.delete`."""
        self._lead()
        super().delete(instance)

    # Since SQLAlchemy 2.1.
    if hasattr(Session, "delete_all"):

        def delete_all(self, instances: Iterable[object]) -> None:
            """Mark objects as deleted; see `Session.delete_all`."""
            self._lead()
            super().delete_all(instances)

    def _lead(self) -> None:
        """Let what is loaded in order to be written be as it is where it is written."""
        if self._routing is not None and self._routing.readers is not None:
            self._routing.readers.lead()

    def _has_written(
        self,
        engines: Iterable[Engine],
        unproven: Iterable[str],
        unresolved: Iterable[str],
        is_known: bool,
    ) -> None:
        """Hear that a transaction which wrote, or may have, has ended."""
        if self._routing is not None and self._routing.readers is not None:
            unknown = None if not is_known else unresolved
            self._routing.readers.written(engines, unproven, unknown)

    def _require_routing(self) -> Routing:
        if self._routing is None:
            raise RoutingError("R206", "the session was made without a router")
        return self._routing
