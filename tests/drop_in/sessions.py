"""The sessions that take the place of SQLAlchemy's own in its tests."""

from __future__ import annotations

from enum import Enum
from inspect import isfunction
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy.ext.asyncio as asyncio_package
import sqlalchemy.ext.asyncio.scoping as asyncio_scoping_module
import sqlalchemy.ext.asyncio.session as asyncio_module
import sqlalchemy.orm as orm_package
import sqlalchemy.orm.scoping as scoping_module
import sqlalchemy.orm.session as session_module
from sqlalchemy import URL, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from router import AsyncRoutingSession, Router, RoutingSession
from router.session import sync
from router.session.aio import AsyncRoutingScopedSession
from router.session.registry import RoutingScopedSession


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
        # Of the dialect only; the driver is that of the engine.
        url = engine.url.set(drivername=engine.url.get_backend_name())
        data = {
            "version": 1,
            "databases": {"main": {"url": url.render_as_string(hide_password=False)}},
            "keyspaces": {"main": {"database": "main"}},
            "binds": {"default": "main"},
            # As for SQLAlchemy's session, unless it is told otherwise.
            "transactions": {"two_phase": False},
        }
        found = _routers[engine] = Router.from_dict(data)
        _connect(found.engines, engine)
    return found


def _connect(engines: Any, engine: Engine) -> None:
    # Tests look at what happens to this engine.
    engines._engines["main"] = engine
    engines._names[engine] = "main"


def async_router_of(engine: AsyncEngine) -> Router:
    """Return a router with a map of one database, which `engine` connects to."""
    found = router_of(engine.sync_engine)
    side = found.async_side
    if "main" not in side.engines.sync_engines.made():
        _connect(side.engines.sync_engines, engine.sync_engine)
        side.engines._engines["main"] = engine
    return found


class RoutedSession(RoutingSession):
    """A session with a map of one database, where its bind says no more than which one."""

    def __init__(self, bind: Any = None, **kw: Any) -> None:
        # Not what only pretends to be an engine.
        if isinstance(bind, Engine) and isinstance(bind.url, URL) and not kw.get("binds"):
            super().__init__(router=router_of(bind), **kw)
        else:
            super().__init__(bind, **kw)


class AsyncRoutedSession(AsyncRoutingSession):
    """An asyncio session with a map of one database, where its bind says which one."""

    def __init__(self, bind: Any = None, **kw: Any) -> None:
        if isinstance(bind, AsyncEngine) and not kw.get("binds"):
            super().__init__(router=async_router_of(bind), **kw)
        else:
            super().__init__(bind, **kw)


_CLASSES: dict[Kind, tuple[type[RoutingSession], type[AsyncRoutingSession]]] = {
    Kind.UNROUTED: (RoutingSession, AsyncRoutingSession),
    Kind.ROUTED: (RoutedSession, AsyncRoutedSession),
}


def complete(cls: type[Any], base: type[Any]) -> Any:
    """Return a class like `cls` that has every method of `base` as its own.

    Some tests find out what there is to test by what the class itself defines.
    """
    functions = [name for name, value in vars(base).items() if isfunction(value)]
    own = {name: getattr(cls, name) for name in functions if not name.startswith("_")}
    specials = {name: getattr(cls, name) for name in ("__iter__", "__contains__")}
    return type(base.__name__, (cls,), {**own, **specials})


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
    """Put our sessions and registries in the places of SQLAlchemy's own, wherever they are."""
    if kind is Kind.PLAIN:
        return
    cls, async_cls = _CLASSES[kind]
    ours = complete(cls, Session)
    ours_async = complete(async_cls, AsyncSession)
    modules: list[Any] = [orm_package, session_module, scoping_module, asyncio_module]
    for module in modules:
        module.Session = ours
    modules = [asyncio_package, asyncio_module, asyncio_scoping_module]
    for module in modules:
        module.AsyncSession = ours_async
    modules = [orm_package, scoping_module]
    for module in modules:
        module.scoped_session = RoutingScopedSession
    modules = [asyncio_package, asyncio_scoping_module]
    for module in modules:
        module.async_scoped_session = AsyncRoutingScopedSession
    session_module.sessionmaker.__init__.__kwdefaults__["class_"] = ours
    asyncio_module.async_sessionmaker.__init__.__kwdefaults__["class_"] = ours_async
    ours_async.sync_session_class = ours
