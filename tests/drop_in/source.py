"""Where SQLAlchemy's tests come from: its source distribution."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import sqlalchemy

from router.testing.servers import cache_directory


def fetched() -> Path:
    """Return the unpacked source distribution of the installed SQLAlchemy, fetched once."""
    version = sqlalchemy.__version__
    home = cache_directory("sqlalchemy")
    unpacked = home / f"sqlalchemy-{version}"
    if not unpacked.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tarfile.open(_downloaded(home, version)) as archive:
            archive.extractall(home, filter="data")
    return unpacked


def _downloaded(home: Path, version: str) -> Path:
    options = ["--no-deps", "--no-binary", ":all:", "--dest", str(home)]
    wanted = f"sqlalchemy=={version}"
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *options, wanted], check=True
    )
    return next(home.glob(f"[sS][qQ][lL][aA]lchemy-{version}.tar.gz"))
