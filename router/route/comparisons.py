"""Translates SQL comparisons of columns with parameters into predicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    ExpressionClauseList,
    False_,
    Grouping,
    Null,
    Tuple,
)
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from router.hooks.statements import resolved
from router.route.predicates import (
    ANYTHING,
    NOTHING,
    Compare,
    Comparison,
    Equals,
    IsNull,
    OneOf,
    Predicate,
    Value,
    conjunction,
    disjunction,
)
from router.route.regions import ColumnRef, Same

Resolve = Callable[[Any], ColumnRef | None]
Certain = Callable[[ColumnRef], bool]

_COMPARISONS: dict[Any, tuple[Comparison, Comparison]] = {
    # operator: (column op value, value op column)
    operators.lt: (Comparison.LT, Comparison.GT),
    operators.le: (Comparison.LE, Comparison.GE),
    operators.gt: (Comparison.GT, Comparison.LT),
    operators.ge: (Comparison.GE, Comparison.LE),
}


class Comparisons:
    """Knows the statement's parameters; everything it does not understand is `ANYTHING`."""

    def __init__(self, binds: Sequence[BindParameter[Any]]) -> None:
        self._binds: dict[str, list[int]] = {}
        for index, bind in enumerate(binds):
            self._binds.setdefault(bind.key, []).append(index)

    def equality(self, clause: Any, resolve: Resolve) -> Same | None:
        """Return the two columns that `clause` says are equal, if that is what it says."""
        if not isinstance(clause, BinaryExpression) or clause.operator is not operators.eq:
            return None
        left, right = resolve(clause.left), resolve(clause.right)
        return Same(left, right) if left is not None and right is not None else None

    def predicate(self, clause: Any, resolve: Resolve, certain: Certain) -> Predicate:
        """Return what `clause` says about columns.

        `certain` tells whether a column's table takes part in every row: elsewhere a NULL
        may come from an outer join, and says nothing.
        """
        clause = resolved(clause)
        if isinstance(clause, Grouping):
            return self.predicate(clause.element, resolve, certain)
        if isinstance(clause, BooleanClauseList):
            parts = [self.predicate(part, resolve, certain) for part in clause.clauses]
            return self._boolean(clause.operator, parts)
        if isinstance(clause, False_):
            return NOTHING
        if isinstance(clause, BinaryExpression):
            return self._binary(clause, resolve, certain)
        return ANYTHING

    @staticmethod
    def _boolean(operator: Any, parts: list[Predicate]) -> Predicate:
        if operator is operators.and_:
            return conjunction(parts)
        return disjunction(parts) if operator is operators.or_ else ANYTHING

    def _binary(self, clause: Any, resolve: Resolve, certain: Certain) -> Predicate:
        if clause.operator is operators.in_op:
            return self._one_of(clause, resolve)
        if clause.operator is operators.is_ and isinstance(clause.right, Null):
            column = resolve(clause.left)
            return IsNull(column) if column is not None and certain(column) else ANYTHING
        if clause.operator is operators.between_op:
            return self._between(clause, resolve)
        column, value, position = resolve(clause.left), self._value(clause.right), 0
        if column is None:
            column, value, position = resolve(clause.right), self._value(clause.left), 1
        if column is None or value is None:
            return ANYTHING
        if clause.operator is operators.eq:
            return Equals(column, value)
        if clause.operator in _COMPARISONS:
            return Compare(column, _COMPARISONS[clause.operator][position], value)
        return ANYTHING

    def _one_of(self, clause: Any, resolve: Resolve) -> Predicate:
        value = self._value(clause.right)
        left = clause.left
        while isinstance(left, Grouping):
            left = left.element
        items = left.clauses if isinstance(left, Tuple) else (left,)
        columns = tuple(resolve(item) for item in items)
        known = any(column is not None for column in columns)
        return OneOf(columns, value) if value is not None and known else ANYTHING

    def _between(self, clause: Any, resolve: Resolve) -> Predicate:
        column = resolve(clause.left)
        bounds = clause.right
        # BETWEEN SYMMETRIC takes its bounds in either order.
        modified = any(clause.modifiers.values())
        if column is None or modified or not isinstance(bounds, ExpressionClauseList):
            return ANYTHING
        low, high = (self._value(part) for part in bounds.clauses)
        both = ((Comparison.GE, low), (Comparison.LE, high))
        return conjunction(Compare(column, how, v) for how, v in both if v is not None)

    def _value(self, clause: Any) -> Value | None:
        while isinstance(clause, Grouping):
            clause = clause.element
        if not isinstance(clause, BindParameter) or not _is_sent_unchanged(clause.type):
            return None
        first, *others = self._binds.get(clause.key, (None,))
        return None if first is None else Value(first, clause.key, tuple(others))


def _is_sent_unchanged(kind: TypeEngine[Any]) -> bool:
    """Return whether the database gets a value of this type as the application gave it."""
    return not isinstance(kind, (TypeDecorator, UserDefinedType))
