"""What would happen to a statement: where it goes, how its answer is made, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import CompoundSelect, Select

from router.errors import RouterError
from router.gather.copying import rows_to_copy
from router.gather.plan import GatherPlan, Reading, plan_gather
from router.hooks.statements import is_opaque, plain_table, resolved
from router.rewrite.decompose import Decomposition
from router.rewrite.terms import TextOrder, Undecomposable
from router.route.circumstances import Circumstances
from router.route.finding import finding_of
from router.route.target import Reach, Refusal, Target, Tier
from router.route.tiers import locking
from router.session.merging import decomposed
from router.session.wiring import Wiring


@dataclass(frozen=True, slots=True)
class PlannedStatement:
    """SQL with its parameters, and the shard or database it is for."""

    where: str
    database: str
    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen to a statement; nothing of it has.

    Parameters
    ----------
    target:
        Where the statement goes.
    tier:
        How rows of several places become one answer.
    reasons:
        Why.
    statements:
        What each database would be sent.  Values of keys are theirs only.
    steps:
        What is done with what they answer.
    """

    target: Target
    tier: Tier
    reasons: tuple[str, ...]
    statements: tuple[PlannedStatement, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def shards(self) -> tuple[str, ...]:
        """The shards, written ``keyspace/shard``, and the databases without shards."""
        return tuple(one.name for one in self.target.destinations)

    @property
    def refusal(self) -> RouterError | None:
        """The error that executing the statement would raise, or None."""
        return self.target.refusal.exception() if self.target.refusal is not None else None

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(plan: Plan) -> Iterator[str]:
    yield f"{plan.tier.name.lower()}: {plan.tier.value}"
    if plan.refusal is not None:
        yield from (f"└─ {line}" for line in str(plan.refusal).splitlines())
        return
    for reason in plan.reasons:
        yield f"├─ because {reason}"
    for one in plan.statements:
        place = one.where if one.where == one.database else f"{one.where} (database {one.database})"
        yield f"├─ {place}"
        yield from (f"│    {line}" for line in one.sql.splitlines())
        if one.params:
            yield f"│    {dict(one.params)}"
    for step in plan.steps:
        yield f"├─ {step}"
    yield "└─ rows"


def explain(wiring: Wiring, statement: Any, params: Any = None) -> Plan:
    """Return the plan of `statement` for a session in plain circumstances."""
    plan = _explained(wiring, resolved(statement), params)
    if not _may_be_read_elsewhere(wiring, resolved(statement), params, plan):
        return plan
    step = "read from replicas, if the transaction has not written"
    return replace(plan, steps=(step, *plan.steps))


def _may_be_read_elsewhere(wiring: Wiring, statement: Any, params: Any, plan: Plan) -> bool:
    copied = plan.refusal is not None or plan.tier is Tier.GATHERED
    if wiring.fleet is None or copied or not isinstance(statement, (Select, CompoundSelect)):
        return False
    shape = wiring.planner.shape(statement, params)[0]
    used = {one.database for one in plan.target.destinations}
    return shape.is_harmless and not shape.locks and any(one in wiring.fleet for one in used)


def _explained(wiring: Wiring, statement: Any, params: Any) -> Plan:
    if is_opaque(statement) and wiring.only_database is None:
        what = "the tables of text cannot be seen"
        refusal = Refusal("R304", what, error=RouterError)
        return _refused(Target(Reach.REFUSED, refusal=refusal))
    if is_opaque(statement):
        target = Target(Reach.ONE, (wiring.only_database,), ("there is one database",))  # type: ignore[arg-type]
    else:
        target = wiring.target(statement, params)
    if target.refusal is not None:
        return _refused(target)
    if target.tier is Tier.MERGED:
        return _merged(wiring, statement, params, target)
    if target.tier is Tier.GATHERED:
        return _gathered(wiring, statement, params, target)
    if target.tier is Tier.FOUND or target.tier is Tier.MOVED:
        return _found(wiring, statement, target)
    sent = tuple(
        _planned(wiring, one.name, one.database, statement, _given(params, target, one.database))
        for one in target.destinations
    )
    steps = ("the rows of one shard after another",) if len(sent) > 1 else ()
    return Plan(target, target.tier, target.reasons, sent, steps)


def _refused(target: Target) -> Plan:
    return Plan(target, Tier.REFUSED, target.reasons)


def _given(params: Any, target: Target, database: str) -> Any:
    narrowing = target.narrowing
    if narrowing is None:
        return params
    return {**(params or {}), narrowing.name: narrowing.parts.get(database, [])}


def _merged(wiring: Wiring, statement: Any, params: Any, target: Target) -> Plan:
    found = decomposed(wiring, statement, params, target, TextOrder.CODE_POINTS)
    if isinstance(found, Undecomposable):
        why = f"it cannot be merged: {found}"
        return _gathered(wiring, statement, params, target, (*target.reasons, why))
    reasons = target.reasons
    if isinstance(decomposed(wiring, statement, params, target, TextOrder.OTHER), Undecomposable):
        reasons += ("the shards are taken to compare text by code points; else it is gathered",)
    sent = tuple(
        _planned(wiring, one.name, one.database, found.statement, found.params)
        for one in target.destinations
    )
    return Plan(target, Tier.MERGED, reasons, sent, _steps(found))


def _found(wiring: Wiring, statement: Any, target: Target) -> Plan:
    binding: Any = wiring.binds.of_table(plain_table(statement.table))
    finding = finding_of(statement, binding, moves=target.tier is Tier.MOVED)
    found = explain(wiring, finding.query if finding is not None else statement)
    steps = (*found.steps, "lock the rows that were found", "write them by their keys")
    return Plan(target, target.tier, (*target.reasons, *found.reasons), found.statements, steps)


def _steps(found: Decomposition) -> tuple[str, ...]:
    return tuple(f"merge: {step}" for step in found.steps)


def _gathered(
    wiring: Wiring,
    statement: Any,
    params: Any,
    target: Target,
    reasons: tuple[str, ...] | None = None,
) -> Plan:
    facts, shape, parameters = wiring.planner.facts(statement, params)
    if shape.locks:
        return _refused(Target(Reach.REFUSED, refusal=locking(shape)))
    reading = Reading(facts, shape, parameters, wiring.binds, Circumstances())
    plan = plan_gather(reading, wiring.backend)
    sent = (*_copies(wiring, plan), _planned(wiring, plan.host, plan.host, statement, params))
    return Plan(target, Tier.GATHERED, reasons or target.reasons, sent, tuple(plan.steps()))


def _copies(wiring: Wiring, plan: GatherPlan) -> Iterator[PlannedStatement]:
    for source in plan.copied:
        for at in source.places:
            query = rows_to_copy(source, at.name, plan.max_rows + 1)
            yield _planned(wiring, at.name, at.database, query, None)


def _planned(
    wiring: Wiring, where: str, database: str, statement: Any, params: Any
) -> PlannedStatement:
    dialect = wiring.engines[database].dialect
    row = params[0] if isinstance(params, (list, tuple)) and params else params
    expanded = statement.compile(dialect=dialect).construct_expanded_state(row or None)
    return PlannedStatement(where, database, expanded.statement, dict(expanded.parameters))
