"""Workers and servers are killed at random while others commit, recover and clean.

Run it as ``python -m tests.faults.chaos --seconds 600 --seed 7``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from sqlalchemy import Executable, insert, make_url, select, update

from router import Router, TransactionInDoubtError
from router.session import ending
from router.testing.servers import Server
from router.transaction.cleaning import clean
from router.transaction.fence import patiently
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act
from tests.faults.coordinators import CONTEXT
from tests.faults.ledger import BALANCES, ENTRIES, Colour, entries, open_ledger, settled, verdicts
from tests.faults.servers import durable, kill, restart
from tests.support.broker import KINDS
from tests.support.databases import fresh_databases
from tests.support.processes import eventually

WORKERS = 4
ACCOUNTS = 6
RANGE = 100_000
"""How many transactions a worker can number."""

KEEP_SECONDS = 6.0
"""Longer than a coordinator asks: what it may ask for must be there."""

PATIENCE_SECONDS = 1.0

KILLED, LOST = 0.002, 0.005
"""How probable it is, at each moment of a commit, that a process ends or an answer is lost."""


@dataclass
class Tally:
    """What has happened, and what must never happen."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        names = ("commits", "aborts", "in doubt", "worker kills", "server kills", "recovered")
        told = [f"{self.counts[name]} {name}" for name in names]
        return ", ".join([*told, f"{len(self.violations)} violations"])


# -- the processes ------------------------------------------------------------------------------


class Notes:
    """A file of lines that are there when the process that wrote them was killed."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, *words: object) -> None:
        """Add a line."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class Fate:
    """A probe at which a process ends now and then, or loses an answer."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def __call__(self, moment: Moment, act: Act) -> None:
        """Throw the dice."""
        thrown = self._rng.random()
        if thrown < KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if thrown < KILLED + LOST:
            raise LostError


class LostError(Exception):
    """Stands for an answer that does not arrive."""


def transfer(places: Sequence[int], number: int, rng: random.Random) -> list[Executable]:
    """Return the statements that move money between databases, in any order."""
    made: list[Executable] = []
    for at in places:
        change = 1 if at != places[0] else 1 - len(places)
        balance = BALANCES[at]
        account = rng.randint(1, ACCOUNTS)
        made.append(insert(ENTRIES[at]).values(id=number))
        made.append(
            update(balance).where(balance.c.id == account).values(amount=balance.c.amount + change)
        )
    return made


def work(urls: list[str], place: Path, worker: int, colour: Colour) -> None:
    """Commit transfers until told to stop, and note what was begun and what was told."""
    ending.patiently = partial(patiently, seconds=PATIENCE_SECONDS)  # type: ignore[assignment]
    rng = random.Random(worker)
    notes = Notes(place / f"worker{worker}")
    with open_ledger(urls) as router, probing(Fate(random.Random(worker))):
        if colour is Colour.SYNC:
            for number in range(worker * RANGE, (worker + 1) * RANGE):
                if (place / "stop").exists():
                    return
                with Told(notes, number):
                    commit(router, begin(notes, number, rng, len(urls)), number, rng)
        else:
            asyncio.run(_work(router, place, notes, worker, rng))


async def _work(router: Router, place: Path, notes: Notes, worker: int, rng: random.Random) -> None:
    async with router:
        for number in range(worker * RANGE, (worker + 1) * RANGE):
            if (place / "stop").exists():
                return
            places = begin(notes, number, rng, len(router.engines))
            with Told(notes, number):
                async with router.async_sessionmaker().begin() as session:
                    for statement in transfer(places, number, rng):
                        await session.execute(statement)


def begin(notes: Notes, number: int, rng: random.Random, most: int) -> list[int]:
    """Choose the databases of a transaction, and note them."""
    places = rng.sample(range(most), rng.randint(2, most))
    notes.add("begun", number, ",".join(map(str, places)))
    return places


def commit(router: Router, places: Sequence[int], number: int, rng: random.Random) -> None:
    """Make one transfer."""
    with router.sessionmaker().begin() as session:
        for statement in transfer(places, number, rng):
            session.execute(statement)


class Told:
    """Notes what a caller was told."""

    def __init__(self, notes: Notes, number: int) -> None:
        self._notes = notes
        self._number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is None:
            self._notes.add("committed", self._number)
            return True
        word = "doubted" if isinstance(error, TransactionInDoubtError) else "aborted"
        self._notes.add(word, self._number, type(error).__name__)
        time.sleep(0.02)
        return isinstance(error, Exception)


def recover(urls: list[str], place: Path, number: int) -> None:
    """Recover and clean until told to stop."""
    notes = Notes(place / f"recoverer{number}")
    with open_ledger(urls) as router:
        while not (place / "stop").exists():
            try:
                done = router.recover(grace=0.05)
                clean(router.engines, KEEP_SECONDS)
            except Exception as error:
                notes.add("failed", repr(error).replace("\n", " "))
                raise
            notes.add("recovered", sum(not one.is_open for one in done))


# -- the world ----------------------------------------------------------------------------------


class Chaos:
    """Starts processes over databases, and kills them and their servers."""

    def __init__(self, urls: list[str], servers: Sequence[Server], place: Path, seed: int) -> None:
        self.urls = urls
        self.tally = Tally()
        self._servers = servers
        self._place = place
        self._rng = random.Random(seed)
        self._next = 0
        self._running: list[tuple[BaseProcess, Callable[[], BaseProcess]]] = []

    def run(self, seconds: float) -> None:
        """Let everything happen for so long, and then end by itself."""
        makers = [partial(self._worker, colour) for colour in Colour] * (WORKERS // 2)
        for make in [*makers, self._recoverer, self._recoverer]:
            self._running.append((make(), make))
        deadline = time.monotonic() + seconds
        next_server = time.monotonic() + self._rng.uniform(1, 3)
        while time.monotonic() < deadline:
            time.sleep(self._rng.uniform(0.2, 1.5))
            self._kill_process()
            if time.monotonic() > next_server:
                self._kill_server()
                next_server = time.monotonic() + self._rng.uniform(4, 12)
        (self._place / "stop").touch()
        for process, _ in self._running:
            process.join()

    def _worker(self, colour: Colour) -> BaseProcess:
        return self._start(work, colour)

    def _recoverer(self) -> BaseProcess:
        return self._start(recover)

    def _start(self, target: Callable[..., None], *more: object) -> BaseProcess:
        self._next += 1
        process = CONTEXT.Process(target=target, args=(self.urls, self._place, self._next, *more))
        process.start()
        return process

    def _kill_process(self) -> None:
        chosen = self._rng.choice(self._running)[0]
        chosen.kill()
        chosen.join()
        for at, (process, make) in enumerate(self._running):
            # Some have ended by themselves.
            if not process.is_alive():
                self.tally.counts["worker kills"] += 1
                self._running[at] = (make(), make)

    def _kill_server(self) -> None:
        server = self._rng.choice(self._servers)
        kill(server)
        self.tally.counts["server kills"] += 1
        time.sleep(self._rng.choice([0, 0, 1.5]))
        restart(server)

    # -- what must hold ------------------------------------------------------------------------

    def check(self, router: Router) -> None:
        """Recover what is left, and look at everything."""
        violations = self.tally.violations
        if not eventually(lambda: not [one for one in router.recover(grace=0) if one.is_open]):
            violations.append("something cannot be recovered")
        self._compare(entries(router))
        if balance(router):
            violations.append(f"the balances add up to {balance(router)}")
        if not settled(router):
            violations.append("branches or connections are left")
        if not eventually(lambda: forgets(router)):
            violations.append(f"the logs keep {verdicts(router)}")

    def _compare(self, found: list[set[int]]) -> None:
        begun, told = self._read()
        strange = set().union(*found) - begun.keys()
        if strange:
            self.tally.violations.append(f"never begun: {sorted(strange)}")
        for number, places in begun.items():
            present = {at for at, one in enumerate(found) if number in one}
            word = told.get(number, "")
            allowed = {"committed": [places], "aborted": [set()]}.get(word, [places, set()])
            if present not in allowed:
                what = f"{number} over {sorted(places)} is in {sorted(present)}, told {word!r}"
                self.tally.violations.append(what)

    def _read(self) -> tuple[dict[int, set[int]], dict[int, str]]:
        begun: dict[int, set[int]] = {}
        told: dict[int, str] = {}
        counts = self.tally.counts
        names = {"committed": "commits", "aborted": "aborts", "doubted": "in doubt"}
        for path in self._place.iterdir():
            for line in path.read_text(encoding="utf-8").splitlines():
                word, first, *rest = line.split(" ")
                if word == "begun":
                    begun[int(first)] = set(map(int, rest[0].split(",")))
                elif word == "recovered":
                    counts["recovered"] += int(first)
                elif word == "failed":
                    self.tally.violations.append(f"recovery: {line}")
                else:
                    told[int(first)] = word
                    counts[names[word]] += 1
        return begun, told


def balance(router: Router) -> int:
    """Return the sum of all balances."""
    amounts: list[int] = []
    for at, engine in enumerate(router.engines.values()):
        with engine.connect() as connection:
            amounts += connection.scalars(select(BALANCES[at].c.amount))
    return sum(amounts)


def forgets(router: Router) -> bool:
    """Delete what the logs no longer need; return whether nothing is left there."""
    clean(router.engines, keep=0)
    return not verdicts(router)


def prepare(router: Router) -> None:
    """Create the tables and the accounts."""
    router.create_all()
    rows = [{"id": account, "amount": 0} for account in range(1, ACCOUNTS + 1)]
    for at, engine in enumerate(router.engines.values()):
        with engine.begin() as connection:
            connection.execute(insert(BALANCES[at]), rows)


class _Own:
    """The servers that are killed, to those who make databases there."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers

    def urls(self, kind: str) -> list[str]:
        found = [one for one in self._servers if isinstance(one, KINDS[kind])]
        return [one.url().render_as_string(hide_password=False) for one in found]


def impatient(url: str) -> str:
    """Return a URL of a database in which nobody waits long for a lock."""
    made = make_url(url)
    limit = {"options": "-c lock_timeout=500ms"}
    if made.get_backend_name() == "mysql":
        limit = {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"}
    return made.update_query_dict(limit).render_as_string(hide_password=False)


def run(seconds: float, seed: int, servers: int = 2) -> Tally:
    """Let chaos reign for a while; return what came of it."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-chaos-")))
        (place / "notes").mkdir()
        kinds = [kind for kind in KINDS.values() for _ in range(servers)]
        started = stack.enter_context(durable(*kinds))
        make = stack.enter_context(fresh_databases(_Own(started), place))
        urls = [impatient(url) for kind in KINDS for url in make(kind, 2)]
        with open_ledger(urls) as router:
            prepare(router)
            chaos = Chaos(urls, started, place / "notes", seed)
            chaos.run(seconds)
            chaos.check(router)
        return chaos.tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line; 1 means that something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", type=int, default=2, help="of each kind")
    given = parser.parse_args(arguments)
    tally = run(given.seconds, given.seed, given.servers)
    for violation in tally.violations:
        sys.stdout.write(f"{violation}\n")
    sys.stdout.write(f"{tally}\n")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
