"""The sessions that take the place of SQLAlchemy's own in its tests."""

from __future__ import annotations

from enum import Enum
from inspect import isfunction
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy.ext.asyncio.session as asyncio_module
import sqlalchemy.orm as orm_package
import sqlalchemy.orm.scoping as scoping_module
import sqlalchemy.orm.session as session_module
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from router import Router, RoutingSession
from router.session import sync


class Kind(Enum):
    """Which session is tested."""

    PLAIN = "plain"
    """SQLAlchemy's own, to compare with."""
    UNROUTED = "unrouted"
    """Ours, without a router."""
    ROUTED = "routed"
    """Ours, with a map of one database."""


_routers: WeakKeyDictionary[Engine, Router] = WeakKeyDictionary()


def router_of(engine: Engine) -> Router:
    """Return a router with a map of one database, which `engine` connects to."""
    found = _routers.get(engine)
    if found is None:
        url = engine.url.render_as_string(hide_password=False)
        data = {
            "version": 1,
            "databases": {"main": {"url": url}},
            "keyspaces": {"main": {"database": "main"}},
            "binds": {"default": "main"},
            # As for SQLAlchemy's session, unless it is told otherwise.
            "transactions": {"two_phase": False},
        }
        found = _routers[engine] = Router.from_dict(data)
        # Tests look at what happens to this engine.
        found.engines._engines["main"] = engine
        found.engines._names[engine] = "main"
    return found


class RoutedSession(RoutingSession):
    """A session with a map of one database, where its bind says no more than which one."""

    def __init__(self, bind: Any = None, **kw: Any) -> None:
        if isinstance(bind, Engine) and not kw.get("binds"):
            super().__init__(router=router_of(bind), **kw)
        else:
            super().__init__(bind, **kw)


_CLASSES: dict[Kind, type[RoutingSession]] = {
    Kind.UNROUTED: RoutingSession,
    Kind.ROUTED: RoutedSession,
}


def complete(cls: type[RoutingSession]) -> Any:
    """Return a class like `cls` that has every method of ``Session`` as its own.

    Some tests find out what there is to test by what the class itself defines.
    """
    functions = [name for name, value in vars(Session).items() if isfunction(value)]
    own = {name: getattr(cls, name) for name in functions if not name.startswith("_")}
    specials = {name: getattr(cls, name) for name in ("__iter__", "__contains__")}
    return type("Session", (cls,), {**own, **specials})


def listen_again() -> None:
    """Have our session hear the events that it needs, if it does not any more."""
    for name, (listener, options) in _LISTENERS.items():
        if not event.contains(RoutingSession, name, listener):
            event.listen(RoutingSession, name, listener, **options)


_LISTENERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "after_transaction_create": (sync._route_transaction, {"insert": True}),
    "before_flush": (sync._route_flush, {}),
}


def substitute(kind: Kind) -> None:
    """Have SQLAlchemy call the session under test ``Session``, wherever it does."""
    if kind is Kind.PLAIN:
        return
    cls = complete(_CLASSES[kind])
    modules: list[Any] = [orm_package, session_module, scoping_module, asyncio_module]
    for module in modules:
        module.Session = cls
    session_module.sessionmaker.__init__.__kwdefaults__["class_"] = cls
    asyncio_module.AsyncSession.sync_session_class = cls
