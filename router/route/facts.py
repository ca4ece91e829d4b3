"""Reads a traced statement: which tables it mentions, and what is known of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, CompoundSelect, FromClause, Join, Select, Table, Values
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Grouping
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import (
    Exists,
    FromGrouping,
    SelectBase,
    SelectStatementGrouping,
)

from router.hooks.statements import plain_table, resolved
from router.hooks.trace import Scope, Trace
from router.route.clauses import columns_of, is_in_subquery, outside_where, selects
from router.route.comparisons import Comparisons
from router.route.environment import Derived, Environment, layers
from router.route.predicates import null_rejecting
from router.route.regions import ColumnRef, Occurrence, Part, Region, Same
from router.route.texts import LOOSE, hazard
from router.route.transparency import gives_one_row, is_transparent

Comparable = Callable[[Any, Any], bool]
"""Whether two columns that are equal in the database are equal as keys, too."""

Conditions = list[tuple[Any, Region]]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A conjunct that the rows of a region must satisfy to matter, and what it sees."""

    clause: Any
    region: Region
    environment: Environment


class UnreadableError(Exception):
    """The statement has a part whose tables or rows cannot be followed."""


class WritingError(UnreadableError):
    """A query does more than read."""


class UnreadableRowsError(UnreadableError):
    """The tables of the statement are known, but not what it says of their rows."""


class Facts:
    """The occurrences of tables in a statement and the regions they stand in.

    Parameters
    ----------
    trace:
        The statement as its compiler resolved it.
    comparisons:
        Knows the statement's parameters.
    comparable:
        Whether two columns that are equal in the database are equal as keys, too.
    """

    def __init__(self, trace: Trace, comparisons: Comparisons, comparable: Comparable) -> None:
        self.trace = trace
        self.root = Region()
        self.environment = Environment()
        self.occurrences: list[Occurrence] = []
        self.selects: list[tuple[Select[Any], Region]] = []
        self.compounds = 0
        self.derives = False
        self.conditions: list[Condition] = []
        self.unread: str | None = None
        # Columns whose table is not in sight.
        self.dangling = 0
        self._comparisons = comparisons
        self._comparable = comparable
        self._recursing: list[FromClause] = []
        self._read: list[Scope] = []

    # -- statements -----------------------------------------------------------------------

    def read_query(self, query: Any) -> None:
        """Read a SELECT or a set operation as the whole statement."""
        if self.trace.writes:
            raise WritingError(f"it does more than read: {self.trace.writes[0]}")
        try:
            self._check_text()
            self._select(query, self.root, self.environment)
            self._check_all_was_read()
        except UnreadableRowsError as error:
            self._forget_rows(str(error))

    def _check_text(self) -> None:
        # SQLAlchemy puts no parentheses around text: it may change how what is beside it is read.
        for text in (*self.trace.texts, *self.trace.operators):
            if hazard(text) == LOOSE:
                raise UnreadableRowsError(f"its text {text[:60]!r} {LOOSE}")

    def _forget_rows(self, reason: str) -> None:
        """Keep which tables the statement reads, and nothing of their rows."""
        for scope in self.trace.scopes:
            for element in scope.froms:
                _check_followable(element)
        self.unread = reason
        self.selects, self.conditions, self.compounds = [], [], 0
        self.root, self.environment = Region(), Environment()
        self.occurrences = [
            Occurrence(number, plain_table(table), table, Region(opaque=True))
            for number, table in enumerate(sorted(self.trace.tables, key=lambda one: one.fullname))
        ]

    def read_dml(self, statement: Any, others: Iterable[Any] = ()) -> None:
        """Read an UPDATE or DELETE as compiled; `others` are its values and what it returns."""
        environment = Environment()
        conditions: Conditions = []
        for element in (statement.table, *self.trace.extra_froms):
            self._from(element, self.root, environment, conditions)
        conditions += [(clause, self.root) for clause in statement._where_criteria]
        for clause, where in conditions:
            self._where(clause, where, environment)
        for clause in others:
            self._subqueries(clause, self.root, environment)
        self._check_one_write()

    def read_insert(self, clauses: Iterable[Any]) -> None:
        """Read the subqueries among the values of an INSERT."""
        for clause in clauses:
            self._subqueries(clause, self.root, Environment())
        self._check_one_write()

    def optional(self) -> int:
        """Return how many mentions of tables are on a side of an outer join that may be missing."""
        return sum(one.region.may_be_missing() for one in self.occurrences)

    def _check_one_write(self) -> None:
        if len(self.trace.writes) > 1:
            raise UnreadableError(f"it writes twice: {' and '.join(self.trace.writes)}")
        self._check_all_was_read()

    def _check_all_was_read(self) -> None:
        if any(scope not in self._read for scope in self.trace.scopes):
            raise UnreadableRowsError("it has a subquery in an unusual place")

    # -- selects ----------------------------------------------------------------------------

    def _select(self, select: Any, region: Region, environment: Environment) -> None:
        while isinstance(select, SelectStatementGrouping):
            select = select.element
        if isinstance(select, CompoundSelect):
            self._compound(select, environment)
            return
        core = self._scope(select)
        self.selects.append((core.select, region))
        conditions: Conditions = []
        for element in core.froms:
            self._from(element, region, environment, conditions)
        conditions += [(clause, region) for clause in core.select._where_criteria]
        for clause, where in conditions:
            self._where(clause, where, environment)
        # An aggregate without GROUP BY gives a row even where no row matches, and evaluates
        # its subqueries then: what holds for matching rows says nothing about them.
        around = Region(opaque=True) if gives_one_row(core.select) else region
        for clause in outside_where(core.select):
            self._subqueries(clause, around, environment)
        self._independent(core.select)

    def _scope(self, select: Any) -> Scope:
        scope = self.trace.scope_of(select)
        if scope is None:
            raise UnreadableRowsError(f"a {type(select).__name__} in it has no single meaning")
        self._read += [one for one in self.trace.scopes if one.source is scope.source]
        return scope

    def _compound(self, compound: CompoundSelect[Any], environment: Environment) -> None:
        # What holds in one member does not hold in the others: each is a region of its own.
        self.compounds += 1
        for member in compound.selects:
            self._select(member, Region(opaque=True), Environment(environment.outer))
        for clause in outside_where(compound):
            self._subqueries(clause, Region(opaque=True), Environment(environment.outer))
        self._independent(compound)

    def _independent(self, select: Any) -> None:
        for cte in select._independent_ctes:
            self._from(cte, Region(opaque=True), Environment(), [])

    # -- FROM -------------------------------------------------------------------------------

    def _from(self, element: Any, region: Region, env: Environment, found: Conditions) -> None:
        base = layers(element)[-1]
        if isinstance(element, FromGrouping):
            self._from(element.element, region, env, found)
        elif isinstance(element, Join):
            self._join(element, region, env, found)
        elif isinstance(base, Table):
            self._occurs(base, element, region, env)
        elif isinstance(base, SelectBase):
            self._derived(element, base, region, env)
        elif isinstance(base, (FunctionElement, Values)):
            env.unknown.add(element)
            self._subqueries(base, region, env)
        else:
            raise UnreadableError(f"a {type(base).__name__} in its FROM cannot be followed")

    def _occurs(self, table: Table, element: FromClause, region: Region, env: Environment) -> None:
        found = Occurrence(len(self.occurrences), plain_table(table), element, region)
        self.occurrences.append(found)
        env.tables[element] = found

    def _join(self, join: Join, region: Region, env: Environment, found: Conditions) -> None:
        # Rows of an outer-joined side matter only while they satisfy the ON; those of the
        # other side, and of both sides of a FULL join, matter in any case.
        left = Region(region, Part.NULLABLE) if join.full else region
        right = Region(region, Part.NULLABLE) if join.full or join.isouter else region
        self._from(join.left, left, env, found)
        self._from(join.right, right, env, found)
        if join.onclause is not None:
            found.append((join.onclause, Region(region) if join.full else right))

    def _derived(self, element: Any, inner: Any, region: Region, env: Environment) -> None:
        self.derives = True
        names = frozenset(layers(element)[:-1])
        if any(name in self._recursing for name in names) or _is_recursive_part(element):
            # Its rows come from every turn of the recursion, and nothing is known of them.
            env.unknown.add(element)
            if not any(_restates(one, names) for one in self._recursing):
                self._select(inner, Region(opaque=True), Environment(env))
            return
        within = Environment(env)
        env.derived[element] = Derived(within, names)
        self._recursing.append(element)
        try:
            self._derived_select(inner, region, within)
        finally:
            self._recursing.pop()

    def _derived_select(self, inner: Any, region: Region, within: Environment) -> None:
        if isinstance(inner, CompoundSelect):
            self._compound(inner, within)
            return
        core = self._scope(inner).select
        sub = Region(region, opaque=not is_transparent(core))
        if not gives_one_row(core):
            region.included.append(sub)
        self._select(inner, sub, within)

    # -- predicates ---------------------------------------------------------------------------

    def _where(self, clause: Any, region: Region, env: Environment) -> None:
        clause = resolved(clause)
        if isinstance(clause, Grouping):
            self._where(clause.element, region, env)
        elif isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
            for part in clause.clauses:
                self._where(part, region, env)
        elif isinstance(clause, Exists):
            self._exists(clause, region, env)
        elif is_in_subquery(clause):
            self._in_subquery(clause, region, env)
        else:
            self._condition(clause, region, env)

    def _condition(self, clause: Any, region: Region, env: Environment) -> None:
        def certain(column: ColumnRef) -> bool:
            return self.occurrences[column.occurrence].region in region.certain()

        same = self._comparisons.equality(clause, env.find)
        if same is not None:
            self._equal(same, region)
            self._reject_nulls((same.left, same.right), region)
        else:
            predicate = self._comparisons.predicate(clause, env.find, certain)
            region.predicates.append(predicate)
            self._reject_nulls(null_rejecting(predicate), region)
        self.conditions.append(Condition(clause, region, env))
        self.dangling += sum(not env.sees(column) for column in columns_of(clause))
        self._subqueries(clause, region, env)

    def _equal(self, same: Same, region: Region) -> None:
        left, right = (self._column(one) for one in (same.left, same.right))
        if self._comparable(left, right):
            region.equalities.append(same)

    def _column(self, ref: ColumnRef) -> Any:
        table = self.occurrences[ref.occurrence].table
        return next((one for one in table.columns if one.name == ref.column), None)

    def _reject_nulls(self, rejected: Iterable[Any], region: Region) -> None:
        # A row whose outer-joined side found no match fails the condition, so that
        # side takes part for certain.
        for column in rejected:
            side: Region | None = self.occurrences[column.occurrence].region
            chain = []
            # Of a region around, whose rows these come with, only the missing sides matter.
            known = region.known()
            while side is not None and side not in known:
                chain.append(side)
                side = side.parent if side.part is Part.NULLABLE or side.is_included() else None
            if side is not None:
                region.included.extend(one for one in chain if one not in region.certain())

    def _exists(self, clause: Exists, region: Region, env: Environment) -> None:
        for select in selects(clause):
            sub = Region(region, Part.TESTED)
            self._select(select, sub, Environment(env))
            if self._is_transparent(select):
                region.included.append(sub)

    def _in_subquery(self, clause: BinaryExpression[Any], region: Region, env: Environment) -> None:
        self._subqueries(clause.left, region, env)
        for select in selects(clause.right):
            sub, within = Region(region, Part.TESTED), Environment(env)
            self._select(select, sub, within)
            if not self._is_transparent(select):
                continue
            outer = env.find(clause.left)
            inner = within.find(next(iter(self._scope(select).select.inner_columns), None))
            region.included.append(sub)
            if outer is not None and inner is not None:
                self._equal(Same(outer, inner), sub)

    def _is_transparent(self, select: Any) -> bool:
        scope = self.trace.scope_of(select)
        return scope is not None and is_transparent(scope.select)

    def _subqueries(self, clause: Any, region: Region, env: Environment) -> None:
        for select in selects(resolved(clause)):
            self._select(select, Region(region), Environment(env))


def _check_followable(element: Any) -> None:
    base = layers(element)[-1]
    if isinstance(base, FromGrouping):
        _check_followable(base.element)
    elif isinstance(base, Join):
        _check_followable(base.left)
        _check_followable(base.right)
    elif not isinstance(base, (Table, SelectBase, FunctionElement, Values)):
        raise UnreadableError(f"a {type(base).__name__} in its FROM cannot be followed")


def _is_recursive_part(element: Any) -> bool:
    """Return whether `element` names a recursive CTE inside of its own definition."""
    base = layers(element)[-1]
    ctes = [one for one in layers(element) if isinstance(one, CTE)]
    return any(cte.recursive for cte in ctes) and not isinstance(base, CompoundSelect)


def _restates(cte: Any, names: frozenset[FromClause]) -> bool:
    return any(one is cte or getattr(cte, "_restates", None) is one for one in names)
