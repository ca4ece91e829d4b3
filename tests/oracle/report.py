"""Counting how statements came out, and showing it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice

from router.errors import RouterError
from router.testing import Comparison, Oracle, Outcome
from tests.oracle.generator import Case, generate

UNUSUAL = frozenset({"recursive", "text", "lateral", "values", "window", "query", "set"})
"""Kinds of statements whose refusal would not be a surprise to every user."""


TOGETHER = 10
"""Statements that share a session, every other time."""


@dataclass(frozen=True)
class Found:
    """One statement and what came of it."""

    number: int
    case: Case
    comparison: Comparison

    @property
    def outcome(self) -> Outcome:
        """How the shards compared."""
        return self.comparison.outcome

    @property
    def id(self) -> str:
        """The id of a refusal, or the class of another error."""
        error = self.comparison.error
        return error.id if isinstance(error, RouterError) else type(error).__name__


@dataclass
class Report:
    """What came of many statements."""

    dialect: str
    seed: str
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    refused: defaultdict[str, list[Found]] = field(default_factory=lambda: defaultdict(list))
    failed: list[Found] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Count a statement; keep it where it is to be shown."""
        self.outcomes[found.outcome] += 1
        self.kinds[found.case.kind, found.outcome] += 1
        if found.outcome is Outcome.REFUSED:
            reason = found.comparison.reason
            self.refused[f"{found.case.kind}: {reason}"].append(found)
        elif found.outcome in {Outcome.WRONG, Outcome.ERROR}:
            self.failed.append(found)

    @property
    def answerable(self) -> int:
        """The number of statements that one database answers."""
        return self.outcomes.total() - self.outcomes[Outcome.INVALID]

    @property
    def refused_share(self) -> float:
        """The refused share of those."""
        return self.outcomes[Outcome.REFUSED] / max(self.answerable, 1)

    def lines(self, examples: int = 20) -> Iterator[str]:
        """Yield the report, line by line."""
        counted = ", ".join(f"{one.value} {self.outcomes[one]}" for one in Outcome)
        yield f"{self.dialect}, seed {self.seed!r}: {counted}"
        yield f"refused: {self.refused_share:.2%} of what one database answers"
        yield f"tiers of what was equal: {dict(self.tiers.most_common())}"
        for kind in sorted({kind for kind, _ in self.kinds}):
            row = ", ".join(f"{o.value} {self.kinds[kind, o]}" for o in Outcome)
            yield f"  {kind}: {row}"
        by_count = sorted(self.refused.items(), key=lambda item: -len(item[1]))
        for reason, some in by_count[:examples]:
            yield f"\n{len(some)} x {reason} (number {some[0].number})"
            yield "    " + some[0].comparison.sql.replace("\n", "\n    ")
        for reason, some in sorted(self.failures().items(), key=lambda item: -len(item[1])):
            yield f"\n{len(some)} x {reason}: numbers {[one.number for one in some[:12]]}"
            for found in some[: 1 if reason.startswith("error") else examples]:
                yield f"NUMBER {found.number}, {found.case.kind}: {found.comparison}"

    def failures(self) -> dict[str, list[Found]]:
        """Return what failed, by what the error says or by the kind of statement."""
        found: defaultdict[str, list[Found]] = defaultdict(list)
        for one in self.failed:
            said = one.case.kind if one.outcome is Outcome.WRONG else one.comparison.reason
            found[f"{one.outcome.value}: {said}"].append(one)
        return found


def run(oracle: Oracle, dialect: str, seed: str, numbers: Iterable[int]) -> Report:
    """Compare the statements of `numbers`."""
    report = Report(dialect, seed)
    left = iter(numbers)
    while some := list(islice(left, TOGETHER)):
        with oracle.together() if some[0] % (2 * TOGETHER) else nullcontext():
            for number in some:
                case = generate(seed, number, dialect)
                compared = oracle.compare(case.statement, case.params or None, touch=case.touch)
                report.add(Found(number, case, compared))
                if compared.outcome is Outcome.EQUAL:
                    report.tiers[_tier(oracle, case)] += 1
    return report


def _tier(oracle: Oracle, case: Case) -> str:
    statement = getattr(case.statement, "statement", case.statement)
    tier: str = oracle.router.target(statement, case.params or None).tier.name
    return tier
