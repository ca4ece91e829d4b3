"""The process between a program and a server it started: ends the server when the program ends.

A program can be killed in ways that let none of its own code run.  So the server is the
child of this small process, which waits for its standard input to close: that happens at
the end of the program, whatever ended it.  Then the server is stopped and the temporary
directory removed.  Closing the pipe on purpose is also how a server is stopped normally.

Run by path, as a script, with one argument (`Orders` as JSON).  It imports nothing but the
standard library, since it must start in no time and must not depend on the program's imports.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict

POLL_SECONDS = 0.2
STOP_SECONDS = 30
PR_SET_PDEATHSIG = 1


class Orders(TypedDict):
    """What the guard is told: all of it plain values, since it travels as JSON."""

    command: list[str]
    parent: int
    stop_signal: int
    # Keyword arguments of Popen that switch the user; empty to stay who we are.
    account: dict[str, Any]
    # Temporary directory with the log, the pid and the socket; removed at the end.
    run: str


def main(orders: Orders) -> None:
    """Start the server, wait for the parent to end or to let go, stop the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    run = Path(orders["run"])
    try:
        server = _start(orders, run)
        try:
            _wait(server, orders["parent"], run)
        finally:
            _stop(server, orders["stop_signal"])
    finally:
        shutil.rmtree(run, ignore_errors=True)


def _leave(signum: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signum)


def _start(orders: Orders, run: Path) -> subprocess.Popen[bytes]:
    def die_with_the_guard() -> None:
        # After the switch of users, which would clear it.  The signal follows the thread
        # that started the server: here always the only one.
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, orders["stop_signal"])

    with (run / "log").open("ab") as log:
        server = subprocess.Popen(
            orders["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            preexec_fn=die_with_the_guard,  # noqa: PLW1509 - there are no other threads
            **orders["account"],
        )
    (run / "pid").write_text(str(server.pid), encoding="ascii")
    return server


def _wait(server: subprocess.Popen[bytes], parent: int, run: Path) -> None:
    # A forked child of the parent may hold the pipe open longer than the parent lives.
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            return
        if server.poll() is not None:
            (run / "exited").touch()


def _stop(server: subprocess.Popen[bytes], stop_signal: int) -> None:
    if server.poll() is not None:
        return
    server.send_signal(stop_signal)
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
