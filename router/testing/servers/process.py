"""What every server needs: a port, a user to run as, a directory, a start and a certain end."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from sqlalchemy.engine import URL

from router.testing.servers import flags, guard, places
from router.testing.servers.errors import ServerError
from router.testing.servers.places import HOST

START_SECONDS = 60
POLL_SECONDS = 0.05
LOG_LINES = 20


class Durability(Enum):
    """Whether data must survive a crash of the machine: tests are faster without."""

    NONE = "none"
    FULL = "full"


class Server(ABC):
    """A real database server on a free port of 127.0.0.1, owned by this process.

    It ends with this process, however that ends; see `router.testing.servers.guard`.

    Parameters
    ----------
    directory:
        Where the data is kept for the next start.  Without one, the data is temporary.
    port:
        The TCP port; a free one when 0.
    durability:
        `Durability.NONE` skips everything that waits for a disk.
    """

    product: ClassVar[str]
    accounts: ClassVar[tuple[str, ...]]
    not_ready: ClassVar[type[Exception]]
    stop_signal: ClassVar[signal.Signals]
    discard_signal: ClassVar[signal.Signals]

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        port: int = 0,
        durability: Durability = Durability.NONE,
    ) -> None:
        self.directory = None if directory is None else Path(directory).absolute()
        self.port = port
        self.durability = durability
        self._guard: subprocess.Popen[bytes] | None = None
        self._run: Path | None = None
        self._owner = os.getpid()

    # -- what a kind of server brings along ---------------------------------------------

    @abstractmethod
    def url(self, database: str = flags.ROLE) -> URL:
        """Return the URL of a database on this server, password included."""

    @abstractmethod
    def _locate(self) -> None:
        """Find the binaries; raise R601 where there are none."""

    @abstractmethod
    def _initialise(self, data: Path) -> None:
        """Make a new data directory."""

    @abstractmethod
    def _command(self, data: Path) -> list[str]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def _greet(self) -> None:
        """Connect, and set up what is missing; raise `not_ready` when it is too early."""

    # -- life ---------------------------------------------------------------------------

    @property
    def run(self) -> Path:
        """The temporary directory of this run: log, socket, pid."""
        if self._run is None:
            raise ServerError("R602", f"the {self.product} server is not running")
        return self._run

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return int((self.run / "pid").read_text(encoding="ascii"))

    def start(self) -> Self:
        """Start the server and return once it answers."""
        if self._run is not None:
            return self
        self._owner = os.getpid()
        self._account = places.account(self.accounts)
        self._run = places.run_directory(self._account)
        atexit.register(self.stop)
        try:
            self._locate()
            with places.locked(self.directory, self.product) as lock:
                data = self._data()
                self.port = self.port or places.free_port()
                self._launch(self._command(data), lock)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and return once it is gone; do nothing if it is not running."""
        if self._run is None or self._owner != os.getpid():
            return
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
        shutil.rmtree(self._run, ignore_errors=True)
        self._guard = self._run = None
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- the steps of a start -----------------------------------------------------------

    def _data(self) -> Path:
        home = places.data_home(self.directory, self.run, self._account)
        data, new = home / "data", home / "data.new"
        if not data.exists():
            # Renamed when complete, so that an interrupted initialisation is never used.
            shutil.rmtree(new, ignore_errors=True)
            self._initialise(new)
            new.rename(data)
        return data

    def _tool(self, command: Sequence[str | Path]) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            check=False,
            **self._account.popen(),
        )
        if done.returncode:
            name = Path(command[0]).name
            raise self._failed(f"{name} ended with {done.returncode}", done.stdout)

    def _launch(self, command: list[str], lock: int | None) -> None:
        orders: guard.Orders = {
            "command": command,
            "parent": os.getpid(),
            "stop_signal": self.stop_signal if self.directory else self.discard_signal,
            "account": self._account.popen(),
            "run": str(self.run),
        }
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, json.dumps(orders)],
            stdin=subprocess.PIPE,
            # The guard keeps the data directory locked for as long as the server lives.
            pass_fds=() if lock is None else (lock,),
            # Out of reach of a Ctrl-C in the terminal: the parent decides what it means.
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._greet()
            except self.not_ready as error:
                if self._ended():
                    raise self._failed("it ended while starting", self._log()) from error
                if time.monotonic() > deadline:
                    what = f"no answer after {START_SECONDS} s ({error})"
                    raise self._failed(what, self._log()) from error
            time.sleep(POLL_SECONDS)

    def _ended(self) -> bool:
        gone = self._guard is None or self._guard.poll() is not None
        return gone or (self.run / "exited").exists()

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.run / "log").read_text(encoding="utf-8", errors="replace")
        return ""

    def _failed(self, what: str, log: str) -> ServerError:
        tail = "\n".join(log.splitlines()[-LOG_LINES:])
        place = f"{HOST}:{self.port}" if self.directory is None else str(self.directory)
        return ServerError(
            "R602", f"the {self.product} server did not start: {what}\n{tail}", where=place
        )


@contextlib.contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Start all `servers` side by side; stop them side by side at the end of the block."""
    try:
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(lambda server: server.start(), servers))
        yield
    finally:
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(lambda server: server.stop(), servers))
