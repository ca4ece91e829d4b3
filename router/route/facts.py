"""Reads a traced statement: which tables it mentions, and what is known of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import CTE, Alias, CompoundSelect, FromClause, Join, Select, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnClause, Grouping
from sqlalchemy.sql.selectable import (
    AliasedReturnsRows,
    Exists,
    FromGrouping,
    ScalarSelect,
    SelectBase,
    SelectStatementGrouping,
    TableSample,
)

from router.hooks.trace import Scope, Trace
from router.route.comparisons import Comparisons
from router.route.predicates import (
    AllOf,
    Compare,
    Equals,
    OneOf,
    Predicate,
)
from router.route.regions import ColumnRef, Occurrence, Region, Same
from router.route.transparency import gives_one_row, is_transparent


class UnreadableError(Exception):
    """The statement has a part whose tables or rows cannot be followed."""


@dataclass(eq=False)
class Environment:
    """The FROM elements that a SELECT can see, its own first, then those around it."""

    outer: Environment | None = None
    tables: dict[FromClause, Occurrence] = field(default_factory=dict)
    derived: dict[FromClause, Environment] = field(default_factory=dict)

    def within(self) -> Iterator[Environment]:
        """Yield this environment and those of the derived tables inside it."""
        yield self
        for inner in self.derived.values():
            yield from inner.within()

    def find(self, column: Any) -> Occurrence | None:
        """Return the occurrence that `column` belongs to, through derived tables."""
        element = getattr(column, "table", None)
        at: Environment | None = self
        while at is not None and element is not None:
            if element in at.tables:
                return at.tables[element]
            if element in at.derived:
                return _source(column, at.derived[element])
            at = at.outer
        return None


def _source(column: ColumnClause[Any], derived: Environment) -> Occurrence | None:
    bases = column.base_columns
    if len(bases) != 1:
        return None
    element = getattr(next(iter(bases)), "table", None)
    found = [env.tables[element] for env in derived.within() if element in env.tables]
    return found[0] if len(found) == 1 else None


class Facts:
    """The occurrences of tables in a statement and the regions they stand in.

    Parameters
    ----------
    trace:
        The statement as its compiler resolved it.
    binds:
        The position of each bound parameter, by its key.
    """

    def __init__(self, trace: Trace, binds: Mapping[str, int]) -> None:
        self.trace = trace
        self.root = Region()
        self.occurrences: list[Occurrence] = []
        self.selects: list[tuple[Select[Any], Region]] = []
        self.compounds = 0
        self._comparisons = Comparisons(binds)
        self._recursing: list[CTE] = []

    # -- statements -----------------------------------------------------------------------

    def read_query(self, query: Any) -> None:
        """Read a SELECT or a set operation as the whole statement."""
        environment = Environment()
        if isinstance(query, CompoundSelect):
            self._compound(query, environment)
        else:
            self._select(query, self.root, environment)

    def read_dml(self, table: FromClause, criteria: Iterable[Any], values: Iterable[Any]) -> None:
        """Read an UPDATE or DELETE of `table`, or the subqueries of an INSERT's values."""
        environment = Environment()
        self._from(table, self.root, environment, [])
        for clause in (*criteria, *values):
            for column in _columns(clause):
                element = column.table
                known = element is None or environment.find(column) is not None
                if not known and isinstance(element, FromClause) and element is not table:
                    self._from(element, self.root, environment, [])
        for clause in criteria:
            self._where(clause, self.root, environment)
        for clause in values:
            self._subqueries(clause, self.root, environment)

    def read_values(self, values: Iterable[Any]) -> None:
        """Read the subqueries among the values of an INSERT."""
        for clause in values:
            self._subqueries(clause, self.root, Environment())

    # -- selects ----------------------------------------------------------------------------

    def _select(self, select: Any, region: Region, environment: Environment) -> None:
        while isinstance(select, SelectStatementGrouping):
            select = select.element
        if isinstance(select, CompoundSelect):
            self._compound(select, environment)
            return
        scope = self.trace.scope_of(select)
        if scope is None:
            raise UnreadableError(f"a {type(select).__name__} in it cannot be followed")
        self.selects.append((scope.select, region))
        conditions: list[tuple[Any, Region]] = []
        for element in scope.froms:
            self._from(element, region, environment, conditions)
        for clause, where in conditions:
            self._where(clause, where, environment)
        for clause in scope.select._where_criteria:
            self._where(clause, region, environment)
        # An aggregate without GROUP BY gives a row even where no row matches, and evaluates
        # its subqueries then: what holds for matching rows says nothing about them.
        around = Region(opaque=True) if gives_one_row(scope.select) else region
        for clause in _outside_where(scope):
            self._subqueries(clause, around, environment)

    def _compound(self, compound: CompoundSelect[Any], environment: Environment) -> None:
        # What holds in one member does not hold in the others: each is a region of its own.
        self.compounds += 1
        for member in compound.selects:
            self._select(member, Region(opaque=True), Environment(environment.outer))

    # -- FROM -------------------------------------------------------------------------------

    def _from(
        self, element: Any, region: Region, env: Environment, conditions: list[tuple[Any, Region]]
    ) -> None:
        if isinstance(element, FromGrouping):
            self._from(element.element, region, env, conditions)
        elif isinstance(element, Join):
            self._join(element, region, env, conditions)
        elif isinstance(element, Table):
            self._occurs(element, element, region, env)
        elif isinstance(element, (Alias, TableSample)) and isinstance(element.element, Table):
            self._occurs(element.element, element, region, env)
        elif isinstance(element, AliasedReturnsRows):
            self._derived(element, region, env)
        else:
            self._subqueries(element, region, env)

    def _occurs(self, table: Table, element: FromClause, region: Region, env: Environment) -> None:
        found = Occurrence(len(self.occurrences), table, element, region)
        self.occurrences.append(found)
        env.tables[element] = found

    def _join(
        self, join: Join, region: Region, env: Environment, conditions: list[tuple[Any, Region]]
    ) -> None:
        if join.full:
            raise UnreadableError("a FULL OUTER JOIN in it keeps unmatched rows of both sides")
        self._from(join.left, region, env, conditions)
        side = Region(parent=region, nullable=True) if join.isouter else region
        self._from(join.right, side, env, conditions)
        if join.onclause is not None:
            conditions.append((join.onclause, side))

    def _derived(self, element: Any, region: Region, env: Environment) -> None:
        inner = element.element
        while isinstance(inner, SelectStatementGrouping):
            inner = inner.element
        if element in self._recursing or not isinstance(inner, SelectBase):
            if not isinstance(inner, (SelectBase, Join)):
                self._subqueries(inner, region, env)
                return
            if isinstance(inner, Join):
                raise UnreadableError("an alias of a join in it cannot be followed")
            return
        within = Environment(env)
        env.derived[element] = within
        self._recursing.append(element)
        try:
            self._derived_select(inner, region, within)
        finally:
            self._recursing.pop()

    def _derived_select(self, inner: Any, region: Region, within: Environment) -> None:
        if isinstance(inner, CompoundSelect):
            self._compound(inner, within)
            return
        sub = Region(parent=region, opaque=not is_transparent(inner))
        region.included.append(sub)
        self._select(inner, sub, within)

    # -- predicates ---------------------------------------------------------------------------

    def _where(self, clause: Any, region: Region, env: Environment) -> None:
        if isinstance(clause, Grouping):
            self._where(clause.element, region, env)
        elif isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
            for part in clause.clauses:
                self._where(part, region, env)
        elif isinstance(clause, Exists):
            self._exists(clause, region, env)
        elif _is_in_subquery(clause):
            self._in_subquery(clause, region, env)
        else:
            self._condition(clause, region, env)

    def _condition(self, clause: Any, region: Region, env: Environment) -> None:
        def resolve(column: Any) -> ColumnRef | None:
            return self._ref(column, env)

        def certain(column: ColumnRef) -> bool:
            return self.occurrences[column.occurrence].region in region.certain()

        same = self._comparisons.equality(clause, resolve)
        if same is not None:
            region.equalities.append(same)
            self._reject_nulls((same.left, same.right), region)
        else:
            predicate = self._comparisons.predicate(clause, resolve, certain)
            region.predicates.append(predicate)
            self._reject_nulls(_null_rejecting(predicate), region)
        self._subqueries(clause, region, env)

    def _reject_nulls(self, columns: Iterable[ColumnRef], region: Region) -> None:
        # A row whose outer-joined side found no match fails the condition, so that
        # side takes part for certain.
        for column in columns:
            side: Region | None = self.occurrences[column.occurrence].region
            chain = []
            while side is not None and side not in region.certain():
                chain.append(side)
                side = side.parent if side.nullable or side in _included(side.parent) else None
            if side is not None:
                region.included.extend(one for one in chain if one not in region.certain())

    def _exists(self, clause: Exists, region: Region, env: Environment) -> None:
        for select in _selects(clause):
            sub = Region(parent=region)
            self._select(select, sub, Environment(env))
            if is_transparent(select):
                region.included.append(sub)

    def _in_subquery(self, clause: BinaryExpression[Any], region: Region, env: Environment) -> None:
        self._subqueries(clause.left, region, env)
        for select in _selects(clause.right):
            sub, within = Region(parent=region), Environment(env)
            self._select(select, sub, within)
            scope = self.trace.scope_of(select)
            if not is_transparent(select) or scope is None:
                continue
            outer = self._ref(clause.left, env)
            inner = self._ref(next(iter(scope.select.inner_columns), None), within)
            region.included.append(sub)
            if outer is not None and inner is not None:
                sub.equalities.append(Same(outer, inner))

    def _subqueries(self, clause: Any, region: Region, env: Environment) -> None:
        for select in _selects(clause):
            self._select(select, Region(parent=region), Environment(env))

    def _ref(self, column: Any, env: Environment) -> ColumnRef | None:
        while isinstance(column, Grouping):
            column = column.element
        if not isinstance(column, ColumnClause):
            return None
        occurrence = env.find(column)
        if occurrence is None:
            return None
        bases = column.base_columns
        name = next(iter(bases)).name if len(bases) == 1 else column.name
        return ColumnRef(occurrence.number, name)


def _included(region: Region | None) -> list[Region]:
    return region.included if region is not None else []


def _null_rejecting(predicate: Predicate) -> tuple[ColumnRef, ...]:
    match predicate:
        case Equals(ColumnRef() as column) | Compare(ColumnRef() as column):
            return (column,)
        case OneOf(columns):
            return tuple(column for column in columns if isinstance(column, ColumnRef))
        case AllOf(parts):
            return tuple(column for part in parts for column in _null_rejecting(part))
        case _:
            return ()


def _is_in_subquery(clause: Any) -> bool:
    return (
        isinstance(clause, BinaryExpression)
        and clause.operator is operators.in_op
        and isinstance(clause.right, (ScalarSelect, SelectBase))
    )


def _outside_where(scope: Scope) -> Iterator[Any]:
    select = scope.select
    yield from select._raw_columns
    yield from select._having_criteria
    yield from select._group_by_clauses
    yield from select._order_by_clauses
    yield from (
        clause for clause in (select._limit_clause, select._offset_clause) if clause is not None
    )
    if select._distinct_on:
        yield from select._distinct_on


def _children(clause: Any) -> Iterator[Any]:
    # FROM elements below a column are not mentions of a table; SELECTs are.
    for child in clause.get_children():
        if not isinstance(child, FromClause) or isinstance(child, SelectBase):
            yield child


def _selects(clause: Any) -> Iterator[Any]:
    """Yield the outermost SELECTs inside an expression."""
    if isinstance(clause, SelectBase) and not isinstance(clause, SelectStatementGrouping):
        yield clause
    elif not isinstance(clause, Table):
        for child in _children(clause):
            yield from _selects(child)


def _columns(clause: Any) -> Iterator[ColumnClause[Any]]:
    """Yield the columns in an expression, not those inside its subqueries."""
    if isinstance(clause, ColumnClause):
        yield clause
    elif not isinstance(clause, SelectBase):
        for child in _children(clause):
            yield from _columns(child)
