"""Where SQLAlchemy's tests come from: its source distribution."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy

from router.testing.servers import cache_directory


def fetched() -> Path:
    """Return the unpacked source distribution of the installed SQLAlchemy, fetched once."""
    version = sqlalchemy.__version__
    home = cache_directory("sqlalchemy")
    unpacked = home / f"sqlalchemy-{version}"
    if not unpacked.exists():
        home.mkdir(parents=True, exist_ok=True)
        # What is there is whole, also when this is interrupted.
        with TemporaryDirectory(dir=home) as directory:
            with tarfile.open(_downloaded(Path(directory), version)) as archive:
                archive.extractall(directory, filter="data")
            Path(directory, unpacked.name).rename(unpacked)
    return unpacked


def _downloaded(directory: Path, version: str) -> Path:
    options = ["--no-deps", "--no-binary", ":all:", "--dest", str(directory)]
    wanted = f"sqlalchemy=={version}"
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *options, wanted], check=True
    )
    return next(directory.glob(f"*-{version}.tar.gz"))
