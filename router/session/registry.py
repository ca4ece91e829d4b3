"""The scoped registry: one session per thread, or per scope, and its partitions."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.util import ScopedRegistry, ThreadLocalRegistry

from router.replicas.roles import Role
from router.session.partition import Partition, Pins, Using
from router.session.sync import RoutingSession


class Scopes:
    """What registries of both colours have: sessions and partitions by scope.

    A session made after ``remove()`` inside a ``with registry.partition(...)`` block is
    pinned like the one before it.  A forked process starts with sessions of its own: those
    that were open belong to its parent.
    """

    session_factory: Any
    registry: Any

    def _open(self, scopefunc: Callable[[], Any] | None) -> None:
        self._scopefunc = scopefunc
        self._pins: Any = ThreadLocalRegistry(Pins)
        if scopefunc is not None:
            self._pins = ScopedRegistry(Pins, scopefunc)
        self._start()
        _living.add(self)

    def _start(self) -> None:
        if self._scopefunc is None:
            self.registry = ThreadLocalRegistry(self._create)
        else:
            self.registry = ScopedRegistry(self._create, self._scopefunc)

    def _after_fork(self) -> None:
        """Forget the parent's sessions without closing them: their connections are its own."""
        _of_parents.append(self.registry)
        self._start()

    def _create(self) -> Any:
        session = self.session_factory()
        self._share(session)
        return session

    def _share(self, session: Any) -> None:
        # A factory of one's own may make sessions that know no partitions.
        if hasattr(type(session), "_share_pins"):
            session._share_pins(self._pins())

    def _entered(self) -> Pins:
        self.registry()
        pins: Pins = self._pins()
        return pins

    def _left(self) -> None:
        if not self.registry.has():
            self._forget()

    def _forget(self) -> None:
        # Nothing stays behind for a scope that is in no partition and has named no role.
        if self._pins.has() and self._pins().is_empty:
            self._pins.clear()

    def using(self, role: str) -> Using:
        """Read from servers of a role in the current scope; see `RoutingSession.using`."""
        return Using(self._entered, Role.named(role), self._left)

    def after(self, token: str | None) -> None:
        """Let the scope's session see what `token` says; see `RoutingSession.after`."""
        self.registry().after(token)


class RoutingScopedSession(Scopes, scoped_session[RoutingSession]):
    """A `scoped_session` whose partitions last for the scope, not only for one session."""

    def __init__(
        self,
        session_factory: sessionmaker[RoutingSession],
        scopefunc: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(session_factory, scopefunc)
        self._open(scopefunc)

    def __call__(self, **kw: Any) -> RoutingSession:
        """Return the scope's session, made on first use; see `scoped_session`."""
        session = super().__call__(**kw)
        if kw:
            self._share(session)
        return session

    def remove(self) -> None:
        """Close and forget the scope's session; partitions that are entered stay."""
        super().remove()
        self._forget()

    def token(self) -> str | None:
        """Return the token of the scope's session; see `RoutingSession.token`."""
        return self().token()

    def partition(self, key: Any, *, keyspace: str, guard: bool = False) -> Partition:
        """Pin the current scope to the shard of `key`; see `RoutingSession.partition`."""
        pin = self().partition(key, keyspace=keyspace, guard=guard).value
        return Partition(self._entered, pin, self._left)


_living: weakref.WeakSet[Scopes] = weakref.WeakSet()
# Collecting a session rolls back its connections, which a child process must not do.
_of_parents: list[object] = []


def _forget_after_fork() -> None:
    for registry in list(_living):
        registry._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
