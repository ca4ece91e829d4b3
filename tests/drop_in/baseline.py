"""What comes of SQLAlchemy's tests with SQLAlchemy's session, kept from run to run."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import sqlalchemy

from router.testing.servers import cache_directory
from tests.drop_in.plugin import Outcome, named
from tests.drop_in.running import Place, Run, run
from tests.drop_in.sessions import Kind

Outcomes = Mapping[str, Outcome]


class Baseline:
    """The outcomes of files of tests, for one SQLAlchemy, one Python and one dialect."""

    def __init__(self, source: Path, dialect: str) -> None:
        python = platform.python_version()
        name = f"{sqlalchemy.__version__}-{python}-{dialect}"
        self._home = cache_directory("sqlalchemy") / "baselines" / name

    def outcomes(self, place: Place, files: Sequence[str], *, fresh: bool) -> Run:
        """Return what comes of `files`; those that are known are not run, unless `fresh`.

        Raises
        ------
        RuntimeError
            The run came to no end.
        """
        known = {} if fresh else {file: one for file in files if (one := self._kept(file))}
        unknown = [file for file in files if file not in known]
        done = run(Kind.PLAIN, place, unknown) if unknown else Run()
        if done.broken is not None:
            raise RuntimeError(f"SQLAlchemy's own session: {done.broken}")
        for file, outcomes in _by_file(done.outcomes, unknown).items():
            self._keep(file, outcomes)
        every = [*known.values(), done.outcomes]
        return Run({test: one for some in every for test, one in some.items()}, done.reasons)

    def _kept(self, file: str) -> Outcomes | None:
        path = self._path(file)
        if not path.exists():
            return None
        return {test: Outcome(one) for test, one in json.loads(path.read_text()).items()}

    def _keep(self, file: str, outcomes: Outcomes) -> None:
        # A failure may have been an accident.
        if Outcome.FAILED in outcomes.values():
            return
        path = self._path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed, so that what is read is whole.
        written = path.with_suffix(f".{platform.node()}")
        written.write_text(json.dumps(outcomes))
        written.rename(path)

    def _path(self, file: str) -> Path:
        return self._home / f"{file}.json"


def _by_file(outcomes: Outcomes, files: Iterable[str]) -> dict[str, dict[str, Outcome]]:
    found: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for test, outcome in outcomes.items():
        found[test.partition("::")[0]][test] = outcome
    return {file: found[named(file)] for file in files}
