"""GROUP BY and aggregates whose groups cross shards."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnClause, Extract, FunctionFilter, UnaryExpression
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import ScalarSelect
from sqlalchemy.types import NullType

from router.rewrite.arithmetic import mysql_average, postgresql_average, sqlite_average
from router.rewrite.columns import Columns, bare, same
from router.rewrite.formulas import Formula, Formulas
from router.rewrite.groups import Cell, Combine, Compared, Computed, Groups
from router.rewrite.kinds import Kind, Values, values_of, values_of_type
from router.rewrite.ordering import Direction, SortKey, direction, sort_key
from router.rewrite.paging import Given
from router.rewrite.parts import aggregates_in, function_name
from router.rewrite.shown import Shown
from router.rewrite.terms import Family, InexactError

_LOGICAL = {"bool_and": Combine.EVERY, "every": Combine.EVERY, "bool_or": Combine.SOME}
_EXTREME = {"min": Combine.LEAST, "max": Combine.GREATEST}


class Grouping:
    """Reads the clauses of a SELECT whose groups cross shards.

    Parameters
    ----------
    select:
        The SELECT.
    columns:
        Its columns; those that only the merge needs are added to them.
    given:
        The values of its parameters.
    """

    def __init__(self, select: Select[Any], columns: Columns, given: Given) -> None:
        self.columns = columns
        self.terms = columns.terms
        self._mixed = self.terms.family is Family.SQLITE
        self._cells: dict[int, Cell] = {}
        self._computed: dict[int, Computed] = {}
        self._virtual: list[Formula] = []
        self._formulas = Formulas(self._leaf, given, self.terms)
        self._keys = [columns.resolve(one) for one in select._group_by_clauses]
        self._compared = [self._key(one) for one in self._keys]
        for position, column in enumerate(columns.shown):
            self._show(position, column)
        self._having = self._conditions(select)
        self.order = tuple(self._sort_key(one) for one in select._order_by_clauses)

    def _conditions(self, select: Select[Any]) -> Formula | None:
        criteria = select._having_criteria
        if not criteria:
            return None
        return self._formulas.conditions(criteria)

    def groups(self) -> Groups:
        """Return how to put the groups together."""
        width = self.columns.width + len(self.columns.hidden)
        virtual = [Computed(width + at, formula) for at, formula in enumerate(self._virtual)]
        return Groups(
            tuple(self._compared),
            tuple(map(Shown, self._keys)),
            tuple(self._cells.values()),
            (*self._computed.values(), *virtual),
            self._having,
        )

    def sort_keys(self) -> tuple[SortKey, ...]:
        """Return the keys of ORDER BY; positions of computed ones are behind all columns."""
        width = self.columns.width + len(self.columns.hidden)
        return tuple(
            sort_key(found, width + at if virtual else at, kind, text, self.terms.family)
            for found, at, virtual, kind, text in self.order
        )

    # -- clauses ---------------------------------------------------------------------------

    def _key(self, expression: Any) -> Compared:
        position, values = self.columns.known(expression, "GROUP BY")
        if not values.alike:
            raise InexactError(f"GROUP BY {Shown(expression)}: equal values may look different")
        return Compared(position, values.kind, self._mixed)

    def _show(self, position: int, column: Any) -> None:
        if column is None:
            raise InexactError("an entity or a bundle among groups of several shards")
        expression = bare(column)
        if self._is_key(expression) or self._follows_from_keys(expression):
            return
        if _is_aggregate(expression):
            self._show_aggregate(position, expression)
            return
        formula = self._formulas.of(expression)
        if not formula.values.plain or not self._is_plain(expression):
            raise InexactError(f"{Shown(expression)}: SQLAlchemy converts its value")
        self._computed[position] = Computed(position, formula)

    def _show_aggregate(self, position: int, expression: Any) -> None:
        function = getattr(expression, "func", expression)
        if function_name(function) == "avg":
            formula = self._average(expression)
            self._computed[position] = Computed(position, formula)
            return
        found = self._aggregate(expression, position)
        if found.by is None and not self._is_plain(expression):
            raise InexactError(f"{Shown(expression)}: SQLAlchemy converts its value")

    def _sort_key(self, clause: Any) -> tuple[Direction, int, bool, Kind, Shown]:
        found = direction(clause, self.terms.family)
        expression = self.columns.resolve(found.expression)
        text = Shown(expression)
        for key, compared in zip(self._keys, self._compared, strict=True):
            if same(key, expression):
                values = values_of(key, self.terms)
                if values is None or not values.ordered:
                    raise InexactError(f"ORDER BY {text}: only the database knows the order")
                return found, compared.position, False, compared.kind, text
        formula = self._formulas.of(expression)
        if self._is_inner_average(expression):
            raise InexactError(f"ORDER BY {text}: the database compares more digits than it shows")
        self._virtual.append(formula)
        return found, len(self._virtual) - 1, True, formula.values.kind, text

    # -- leaves of formulas ------------------------------------------------------------------

    def _leaf(self, expression: Any) -> Formula | None:
        for key, compared in zip(self._keys, self._compared, strict=True):
            if same(key, expression):
                values = values_of(key, self.terms)
                if values is None:
                    return None
                return _at(compared.position, values, Shown(expression))
        if not _is_aggregate(expression):
            return None
        function = getattr(expression, "func", expression)
        if function_name(function) == "avg":
            if self._is_inner_average(expression):
                raise InexactError(
                    f"{Shown(expression)}: the database computes with more digits than it shows"
                )
            return self._average(expression)
        values = values_of(expression, self.terms)
        if values is None:
            raise InexactError(f"{Shown(expression)}: too little is known of its values")
        position = self.columns.raw(expression, values)
        self._aggregate(expression, position)
        return _at(position, values, Shown(expression))

    def _is_inner_average(self, expression: Any) -> bool:
        function = getattr(expression, "func", expression)
        return (
            self.terms.family is Family.MYSQL
            and isinstance(function, FunctionElement)
            and function_name(function) == "avg"
        )

    def _is_key(self, expression: Any) -> bool:
        return any(same(key, expression) for key in self._keys)

    def _follows_from_keys(self, expression: Any) -> bool:
        """Return whether an expression says the same of all rows of a group."""
        if self._is_key(expression):
            return True
        opaque = (ColumnClause, ScalarSelect)
        if isinstance(expression, opaque) or aggregates_in(expression):
            return False
        return all(self._follows_from_keys(one) for one in expression.get_children())

    def _is_plain(self, expression: Any) -> bool:
        """Return whether SQLAlchemy hands out what the driver gives for `expression`."""
        if isinstance(expression.type, NullType):
            return True
        known = values_of_type(expression.type, self.terms)
        return known is not None and known.plain

    # -- aggregates --------------------------------------------------------------------------

    def _aggregate(self, expression: Any, position: int) -> Cell:
        """Note how the aggregate at `position` is put together."""
        if position not in self._cells:
            self._cells[position] = self._cell(expression, position)
        return self._cells[position]

    def _cell(self, expression: Any, position: int) -> Cell:
        function = getattr(expression, "func", expression)
        name, text = function_name(function), Shown(expression)
        if name == "count":
            self._check_distinct(function)
            return Cell(position, Combine.ADD, text=text)
        if name in _LOGICAL and self.terms.family is Family.POSTGRESQL:
            return Cell(position, _LOGICAL[name], text=text)
        if name in _EXTREME:
            return Cell(position, _EXTREME[name], self._by(expression, function), text=text)
        if name == "sum":
            self._exact_argument(function)
            self._check_distinct(function)
            return Cell(position, Combine.ADD, text=text)
        raise InexactError(f"the aggregate {name}() over several shards")

    def _by(self, expression: Any, function: Any) -> Compared:
        values = values_of(_argument(function), self.terms)
        if values is None or not values.ordered or not values.alike:
            raise InexactError(f"{Shown(expression)}: only the database compares its values")
        return Compared(self.columns.raw(expression, values), values.kind, self._mixed)

    def _exact_argument(self, function: Any) -> Values:
        values = values_of(_argument(function), self.terms)
        if values is None or not values.plain or values.kind not in (Kind.INTEGER, Kind.DECIMAL):
            raise InexactError(f"{Shown(function)}: its sum may depend on the order of rows")
        return values

    def _check_distinct(self, function: Any) -> None:
        arguments = list(function.clauses)
        first = arguments[0] if arguments else None
        if not isinstance(first, UnaryExpression) or first.operator is not operators.distinct_op:
            return
        counted = [self.columns.resolve(one) for one in (first.element, *arguments[1:])]
        if not self.terms.holds_key(counted):
            raise InexactError(f"{Shown(function)}: equal values may be on several shards")

    def _average(self, expression: Any) -> Formula:
        function = getattr(expression, "func", expression)
        values = self._exact_argument(function)
        self._check_distinct(function)
        if not isinstance(expression.type, NullType):
            raise InexactError(f"{Shown(expression)}: SQLAlchemy converts its value")
        total, count = (self._hidden(name, expression) for name in ("sum", "count"))
        average = Values(Kind.DECIMAL, alike=False)
        if self.terms.family is Family.POSTGRESQL:
            return _quotient(postgresql_average, (total, count), average, expression)
        if self.terms.family is Family.MYSQL:
            own = self.columns.raw(expression, Values(Kind.DECIMAL))
            return _quotient(mysql_average, (total, count, own), average, expression)
        if values.kind is not Kind.INTEGER:
            raise InexactError(f"{Shown(expression)}: its sum may depend on the order of rows")
        ends = [self._hidden(name, expression) for name in ("min", "max")]
        average = Values(Kind.FLOAT)
        return _quotient(sqlite_average, (total, count, *ends), average, expression)

    def _hidden(self, name: str, expression: Any) -> int:
        """Return the position of another aggregate of the same argument and filter."""
        function = getattr(expression, "func", expression)
        other: Any = getattr(func, name)(*function.clauses)
        if isinstance(expression, FunctionFilter):
            other = other.filter(expression.criterion)
        position = self.columns.raw(other, Values(Kind.INTEGER, plain=False))
        self._aggregate(other, position)
        return position


def _is_aggregate(expression: Any) -> bool:
    function = getattr(expression, "func", expression)
    if isinstance(expression, Extract) or not isinstance(function, FunctionElement):
        return False
    return bool(aggregates_in(function)) and function_name(function) != "coalesce"


def _argument(function: Any) -> Any:
    """Return what an aggregate is of, DISTINCT left out."""
    arguments = list(function.clauses)
    if len(arguments) != 1:
        raise InexactError(f"{Shown(function)}: it is not of one value")
    argument = bare(arguments[0])
    if isinstance(argument, UnaryExpression) and argument.operator is operators.distinct_op:
        argument = bare(argument.element)
    return argument


def _at(position: int, values: Values, text: Shown) -> Formula:
    return Formula(lambda row: row[position], values, text)


def _quotient(compute: Any, positions: tuple[int, ...], values: Values, average: Any) -> Formula:
    def evaluate(row: Any) -> Any:
        found = [row[position] for position in positions]
        return None if found[0] is None else compute(*found)

    return Formula(evaluate, values, Shown(average))
