"""Where SQLAlchemy's tests come from: its source distribution."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy

from router.testing.servers import cache_directory

_FIRST_PYTHON = re.compile(r"_py(\d)(\d+)\.py$")


class NoSourceError(Exception):
    """The source distribution could not be fetched."""


def fetched() -> Path:
    """Return the unpacked source distribution of the installed SQLAlchemy, fetched once.

    Raises
    ------
    NoSourceError
        No package index has it, or none can be reached.
    """
    version = sqlalchemy.__version__
    home = cache_directory("sqlalchemy")
    unpacked = home / f"sqlalchemy-{version}"
    if not unpacked.exists():
        home.mkdir(parents=True, exist_ok=True)
        # What is there is whole, also when this is interrupted.
        with TemporaryDirectory(dir=home) as directory:
            with tarfile.open(_downloaded(Path(directory), version)) as archive:
                archive.extractall(directory, filter="data")
            _put(Path(directory, unpacked.name), unpacked)
    return unpacked


def files(source: Path, tests: Sequence[str]) -> list[str]:
    """Return the files of tests in `tests`, files and directories of `source`."""
    found = [path for one in tests for path in _files(source / one) if _is_for_us(path)]
    return list(dict.fromkeys(str(path.relative_to(source)) for path in found))


def _files(path: Path) -> Iterable[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def _is_for_us(path: Path) -> bool:
    """Return whether this Python can read a file, whose name may end in the first that can."""
    first = _FIRST_PYTHON.search(path.name)
    return first is None or sys.version_info >= (int(first[1]), int(first[2]))


def _put(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        # Another process was quicker.
        if not place.exists():
            raise


def _downloaded(directory: Path, version: str) -> Path:
    # Only SQLAlchemy from its source: what pip builds it with would take minutes.
    options = ["--no-deps", "--no-binary", "sqlalchemy", "--dest", str(directory)]
    wanted = f"sqlalchemy=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoSourceError(f"pip did not fetch {wanted}: {done.stderr.strip()[-500:]}")
    return next(directory.glob(f"*-{version}.tar.gz"))
