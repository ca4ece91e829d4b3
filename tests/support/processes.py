"""Programs that tests start in order to end them in every possible way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 60
REPOSITORY = Path(__file__).parents[2]


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be collected does not."""
    status = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return status.stdout.strip()[:1] not in {"", "Z"}


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until `condition` holds; return whether it did in the end."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def program(source: str) -> subprocess.Popen[str]:
    """Start a Python program with pipes to talk to it."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
