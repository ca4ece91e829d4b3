"""Where a server lives: its port, its user, its directories, and who may use them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import random
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.testing.servers.errors import ServerError

HOST = "127.0.0.1"
LOCK_SECONDS = 5
# Below the range from which the kernel takes the local ports of outgoing connections.
PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a server runs as; with `switch`, not the one we are."""

    uid: int
    gid: int
    switch: bool

    def popen(self) -> dict[str, Any]:
        """Return the keyword arguments of `subprocess.Popen` that run a child as this user."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Make `path` and what is below it this user's."""
        if not self.switch:
            return
        os.chown(path, self.uid, self.gid)
        for directory, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.chown(Path(directory, name), self.uid, self.gid, follow_symlinks=False)

    def can_reach(self, path: Path) -> bool:
        """Tell whether this user may pass through all directories above `path`."""
        return all(self._may(parent, stat.S_IXOTH) for parent in path.parents)

    def can_run(self, program: Path) -> bool:
        """Tell whether this user may execute `program` where it lies."""
        return self.can_reach(program) and self._may(program, stat.S_IROTH | stat.S_IXOTH)

    def _may(self, path: Path, bits: int) -> bool:
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return not self.switch or status.st_mode & (bits << shift) == bits << shift


def account(candidates: tuple[str, ...]) -> Account:
    """Return the user to run a server as: ourselves, or for root the first that exists.

    Database servers refuse to run as root.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    for name in candidates:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid, switch=True)
    raise ServerError(
        "R602",
        f"a database server does not run as root, and there is no user {' or '.join(candidates)}",
        fix="create one of these users, or run this as an ordinary user",
    )


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServerError("R602", f"no free port on {HOST} between {PORTS.start} and {PORTS.stop}")


def run_directory(user: Account) -> Path:
    """Make a temporary directory; its path is short, as that of a socket has to be."""
    run = Path(tempfile.mkdtemp(prefix="router-"))
    user.own(run)
    return run


def cache_directory(name: str) -> Path:
    """Return where data that outlives a run can be kept, for example the demo's.

    The environment variable ``ROUTER_CACHE_HOME`` names another place for all of it.
    """
    if given := os.environ.get("ROUTER_CACHE_HOME"):
        return Path(given, name)
    if os.geteuid() == 0:
        # Root's home is closed to the user that the server runs as.
        return Path("/var/cache/sqlalchemy-router", name)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "sqlalchemy-router", name)


def data_home(directory: Path | None, run: Path, user: Account) -> Path:
    """Return the directory that holds the data directory: `directory`, or `run`."""
    if directory is None:
        return run
    if not user.can_reach(directory):
        raise ServerError(
            "R602",
            f"the user that the server runs as may not enter {directory}",
            fix=f"use a directory that everybody may pass through, such as {cache_directory('x')}",
        )
    # Only what is ours: somebody may have named a directory that holds more.
    os.chown(directory, user.uid, user.gid)
    if (directory / "data").exists():
        user.own(directory / "data")
    return directory


@contextlib.contextmanager
def locked(directory: Path | None, product: str) -> Iterator[int | None]:
    """Hold the lock of a data directory; yield its descriptor, to be passed to a child."""
    if directory is None:
        yield None
        return
    lock = _lock_file(directory)
    try:
        _acquire(lock, directory, product)
        yield lock
    finally:
        os.close(lock)


def _lock_file(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        what = f"its data directory cannot be used: {error.strerror}"
        raise ServerError("R602", what, where=str(directory), fix="name another one") from error


def _acquire(lock: int, directory: Path, product: str) -> None:
    # A run that was killed a moment ago may still be stopping its server.
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ServerError(
                    "R603",
                    f"another run uses the {product} data directory",
                    where=str(directory),
                ) from None
        time.sleep(0.1)


def copy_tree(source: Path, target: Path) -> None:
    """Copy the programs below `source`, without what only compilers need."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.a", "include"))
