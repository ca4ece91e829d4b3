"""Looks after transactions over several databases that wait for a long time.

PostgreSQL ends a deadlock among its own transactions, and waits forever where the circle goes
through another database.  (MySQL and MariaDB wait for `innodb_lock_wait_timeout` only.)
A thread looks at the transactions of this process every second.  Only when a statement was under
way at two looks, databases are asked who waits for whom; what is a circle at two looks is one,
since nobody in it can go on.  One transaction in it is given up: its statement fails with R404,
which `router.retry` does again.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from router.deadlocks.graph import Node, Seen, find_cycle, victim_of
from router.deadlocks.witness import Witness
from router.errors import CrossShardError
from router.hooks.cancelling import backend_of
from router.hooks.enlisting import entries

_logger = logging.getLogger("router.transaction")

INTERVAL_SECONDS = 1.0
IDLE_LOOKS = 30
"""After how many looks at which there was no transaction the thread ends."""

EXPLAINED_SECONDS = 30.0
"""How long a cancelled statement may take to fail; later, somebody else has cancelled it."""

_CANCELLED = "57014"

NameOf = Callable[[Engine], str | None]
Backends = dict[int, dict[str, int]]
"""The pids of transactions: by tag, by name of the database."""


class Deadlocks:
    """Knows the transactions of this process that have begun in several databases.

    Parameters
    ----------
    engines:
        The databases, by name.
    names:
        Those that tell who waits for whom.
    """

    _transactions: weakref.WeakKeyDictionary[Any, tuple[int, NameOf]]
    _lock: threading.Lock
    _pid: int

    def __init__(self, engines: Mapping[str, Engine], names: Collection[str]) -> None:
        self._engines = engines
        self._names = names
        self._begin()
        self._heard: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._given_up: dict[tuple[str, int], tuple[str, float]] = {}

    def watch(self, transaction: Any, name_of: NameOf) -> None:
        """Look after a session's root transaction from now on.

        `name_of` returns the name of the database of one of its engines.
        """
        if len(self._names) < 2:
            return
        if self._pid not in (0, os.getpid()):
            # Threads do not survive a fork, and one may have held the lock.
            self._begin()
        with self._lock:
            if transaction in self._transactions:
                return
            self._transactions[transaction] = secrets.randbits(31), name_of
            if not self._pid:
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="router-deadlocks", daemon=True).start()

    def _begin(self) -> None:
        self._transactions = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._pid = 0

    # -- in the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        looks, idle = _Looks(self._engines), 0
        while True:
            time.sleep(INTERVAL_SECONDS)
            try:
                found = self._backends()
                idle = 0 if found else idle + 1
                self._look(looks, found)
            except Exception as error:  # noqa: BLE001 - whatever it is, there is a next look
                _logger.warning("looking for deadlocks: %s", type(error).__name__)
                looks.end()
            if idle >= IDLE_LOOKS and self._may_end():
                looks.end()
                return

    def _may_end(self) -> bool:
        with self._lock:
            if not self._transactions:
                self._pid = 0
            return not self._pid

    def _look(self, looks: _Looks, found: Backends) -> None:
        cycle, seen = looks.look(found)
        victim = victim_of(cycle)
        if victim in found:
            self._give_up(looks, found[victim], seen)

    def _backends(self) -> Backends:
        """Return who executes a statement now, of transactions with several databases."""
        with self._lock:
            known = list(self._transactions.items())
        found: Backends = {}
        for transaction, (tag, name_of) in known:
            try:
                connections = [one.connection for one in entries(transaction)]
                pids = self._pids(connections, name_of)
            except (RuntimeError, AttributeError):
                # It is just being changed or closed, and not waiting.
                continue
            if len(pids) > 1:
                found[tag] = pids
        return found

    def _pids(self, connections: list[Any], name_of: NameOf) -> dict[str, int]:
        """Return the backends of a transaction, by database; none if nobody is at work."""
        pids: dict[str, int] = {}
        is_active = False
        for connection in connections:
            name, backend = name_of(connection.engine), backend_of(connection)
            if name in self._names and backend is not None:
                pids[str(name)] = backend.pid
                is_active = is_active or backend.is_active
                self._hear(connection.engine, str(name))
        return pids if is_active else {}

    def _give_up(self, looks: _Looks, pids: Mapping[str, int], seen: Mapping[str, Seen]) -> None:
        where = [
            name
            for name, pid in pids.items()
            if any(waiting == pid for waiting, _ in seen[name].waits)
        ]
        for name in where:
            what = f"transactions in databases {', '.join(pids)} wait for each other's locks"
            why = f"{what}; the one that waits in {name} is given up"
            self._given_up[name, pids[name]] = why, time.monotonic() + EXPLAINED_SECONDS
            looks.cancel(name, pids[name])

    # -- in whose transaction it is --------------------------------------------------------

    def _hear(self, engine: Engine, name: str) -> None:
        if engine not in self._heard:
            self._heard.add(engine)
            event.listen(engine, "handle_error", partial(self._explain, name))

    def _explain(self, name: str, context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) != _CANCELLED:
            return
        backend = backend_of(context.connection) if context.connection is not None else None
        if backend is None:
            return
        why, until = self._given_up.pop((name, backend.pid), ("", 0.0))
        if time.monotonic() < until:
            raise CrossShardError("R404", why)


class _Looks:
    """Remembers what was seen at the look before."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines
        self._before: Backends = {}
        self._cycle: frozenset[Node] = frozenset()
        self._witnesses: dict[str, Witness] = {}

    def look(self, found: Backends) -> tuple[frozenset[Node], Mapping[str, Seen]]:
        """Return a circle that was there before, if there is one, and what there is."""
        before, self._before = self._before, found
        waiting = {tag: pids for tag, pids in found.items() if before.get(tag) == pids}
        if not waiting:
            self.end()
            return frozenset(), {}
        names = sorted({name for pids in waiting.values() for name in pids})
        if self._connect(names):
            # That may have taken long: what is waiting now is seen at the next look.
            return frozenset(), {}
        tags = {
            name: {pids[name]: tag for tag, pids in waiting.items() if name in pids}
            for name in names
        }
        seen = {name: self._seen(name, tags[name]) for name in names}
        cycle_before, self._cycle = self._cycle, find_cycle(seen)
        return (self._cycle if self._cycle == cycle_before else frozenset()), seen

    def cancel(self, name: str, pid: int) -> None:
        """Stop what a backend does."""
        self._witnesses[name].cancel(pid)

    def end(self) -> None:
        """Let go of what is only needed while somebody waits."""
        self._cycle = frozenset()
        while self._witnesses:
            self._witnesses.popitem()[1].close()

    def _connect(self, names: Sequence[str]) -> bool:
        """Have a witness in every database that can be reached; return whether one is new."""
        missing = [name for name in names if name not in self._witnesses]
        for name in missing:
            try:
                self._witnesses[name] = Witness(self._engines[name])
            except Exception as error:  # noqa: BLE001 - the others are looked at all the same
                _logger.debug("looking for deadlocks in %s: %s", name, type(error).__name__)
        return any(name in self._witnesses for name in missing)

    def _seen(self, name: str, tags: Mapping[int, int]) -> Seen:
        witness = self._witnesses.get(name)
        if witness is None:
            return Seen()
        try:
            return witness.look(tags)
        except Exception as error:  # noqa: BLE001 - the others are looked at all the same
            _logger.debug("looking for deadlocks in %s: %s", name, type(error).__name__)
            self._witnesses.pop(name).close()
            return Seen()
