"""Expressions around aggregates, computed once their values are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    Null,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement

from router.rewrite.arithmetic import add, in_range, multiply, negate, subtract, with_places
from router.rewrite.columns import bare
from router.rewrite.comparing import number
from router.rewrite.kinds import Kind, Values, arithmetic, values_of
from router.rewrite.paging import Given
from router.rewrite.parts import function_name
from router.rewrite.shown import Joined, Shown, Text
from router.rewrite.terms import Family, InexactError, Terms

Merged = Sequence[Any]
Evaluate = Callable[[Merged], Any]


@dataclass(frozen=True, slots=True)
class Formula:
    """What to compute from a merged row, what is known of the outcome, how it is written."""

    evaluate: Evaluate
    values: Values
    text: Text


@dataclass(frozen=True, slots=True)
class Formulas:
    """Makes formulas.

    Parameters
    ----------
    leaf:
        Returns the formula of a group key or an aggregate, None for what is neither.
    given:
        The values of parameters.
    terms:
        Which rules hold.
    """

    leaf: Callable[[Any], Formula | None]
    given: Given
    terms: Terms

    def of(self, expression: Any) -> Formula:
        """Return the formula of an expression; refuse what Python computes otherwise."""
        expression = bare(expression)
        found = self.leaf(expression)
        if found is not None:
            return found
        for kind, make in (
            (BindParameter, self._constant),
            (BinaryExpression, self._binary),
            (UnaryExpression, self._unary),
            (FunctionElement, self._function),
        ):
            if isinstance(expression, kind):
                return make(expression)
        raise _unknown(expression)

    def _constant(self, bind: Any) -> Formula:
        value = self.given.value(bind)
        values = values_of(bind, self.terms)
        fits = {Kind.INTEGER: int, Kind.DECIMAL: Decimal, Kind.TEXT: str}
        if values is None or type(value) is not fits.get(values.kind):
            raise _unknown(bind)
        return Formula(lambda _: value, values, Shown(bind))

    def _unary(self, unary: Any) -> Formula:
        if unary.operator is not operators.neg:
            raise _unknown(unary)
        inner = self.of(unary.element)
        _check_number(inner, unary)
        return replace(inner, evaluate=_strict(negate, inner), text=Shown(unary))

    def _binary(self, binary: Any) -> Formula:
        compute = _ARITHMETIC.get(binary.operator)
        if compute is None:
            raise _unknown(binary)
        left, right = self.of(binary.left), self.of(binary.right)
        values = arithmetic(left.values, right.values, self.terms)
        if values is None or values.kind not in (Kind.INTEGER, Kind.DECIMAL):
            raise _unknown(binary)
        evaluate = _strict(compute, left, right)
        if values.kind is Kind.INTEGER:
            return Formula(_bounded(evaluate, values.bits), values, Shown(binary))
        return Formula(evaluate, values, Shown(binary))

    def _function(self, function: Any) -> Formula:
        if function_name(function) != "coalesce":
            raise _unknown(function)
        first, *others = parts = [self.of(one) for one in function.clauses]
        for part in parts:
            _check_number(part, function)
        whole = first.values.kind is Kind.INTEGER
        if any(part.values.kind is not Kind.INTEGER for part in others):
            raise _unknown(function)
        places = first.values.places
        fixed = self.terms.family is Family.MYSQL
        if fixed and not whole and places is None:
            raise _unknown(function)
        values = first.values
        if whole:
            values = replace(values, bits=max(part.values.bits for part in parts))

        def evaluate(row: Merged) -> Any:
            found = next((v for part in parts if (v := part.evaluate(row)) is not None), None)
            if whole or found is None:
                return found
            return with_places(found, places) if fixed and places else Decimal(found)

        return Formula(evaluate, values, Shown(function))

    # -- conditions ------------------------------------------------------------------------

    def conditions(self, clauses: Sequence[Any]) -> Formula:
        """Return the formula of several conditions that must all hold."""
        return self._joined([self.condition(one) for one in clauses], " AND ", deciding=False)

    def condition(self, clause: Any) -> Formula:
        """Return the formula of a condition: true, false, or None for unknown."""
        clause = bare(clause)
        if isinstance(clause, BooleanClauseList):
            return self._junction(clause)
        if isinstance(clause, UnaryExpression) and clause.operator is operators.inv:
            inner = self.condition(clause.element)
            return replace(inner, evaluate=_strict(_negated, inner))
        if not isinstance(clause, BinaryExpression):
            raise _unknown(clause)
        if clause.operator in (operators.is_, operators.is_not) and isinstance(clause.right, Null):
            return self._null_test(clause)
        return self._comparison(clause)

    def _junction(self, clause: Any) -> Formula:
        parts = [self.condition(one) for one in clause.clauses]
        if clause.operator is operators.or_:
            return self._joined(parts, " OR ", deciding=True)
        return self._joined(parts, " AND ", deciding=False)

    def _joined(self, parts: Sequence[Formula], word: str, *, deciding: bool) -> Formula:
        """Return the formula of conditions of which one that is `deciding` decides."""

        def evaluate(row: Merged) -> bool | None:
            found = [part.evaluate(row) for part in parts]
            if deciding in found:
                return deciding
            return None if None in found else not deciding

        return Formula(evaluate, _TRUTH, Joined(word, [part.text for part in parts]))

    def _null_test(self, clause: Any) -> Formula:
        inner = self.of(clause.left)
        wanted = clause.operator is operators.is_
        return Formula(lambda row: (inner.evaluate(row) is None) is wanted, _TRUTH, Shown(clause))

    def _comparison(self, clause: Any) -> Formula:
        compare = _COMPARISONS.get(clause.operator)
        if compare is None:
            raise _unknown(clause)
        left, right = self.of(clause.left), self.of(clause.right)
        kinds = {left.values.kind, right.values.kind}
        text = kinds == {Kind.TEXT} and clause.operator in (operators.eq, operators.ne)
        numbers = kinds <= _numbers(self.terms)
        if not numbers and not (text and left.values.alike and right.values.alike):
            raise _unknown(clause)
        return Formula(_strict(compare, left, right), _TRUTH, Shown(clause))


def _numbers(terms: Terms) -> set[Kind]:
    whole = {Kind.INTEGER, Kind.DECIMAL}
    return whole | {Kind.FLOAT} if terms.family is Family.SQLITE else whole


def _strict(compute: Callable[..., Any], *parts: Formula) -> Evaluate:
    """Return the evaluation that is NULL as soon as one of its parts is."""

    def evaluate(row: Merged) -> Any:
        found = [part.evaluate(row) for part in parts]
        return None if None in found else compute(*found)

    return evaluate


def _bounded(evaluate: Evaluate, bits: int) -> Evaluate:
    return lambda row: in_range(evaluate(row), bits)


def _negated(value: bool) -> bool:
    return not value


def _check_number(formula: Formula, whole: Any) -> None:
    if formula.values.kind not in (Kind.INTEGER, Kind.DECIMAL):
        raise _unknown(whole)


def _unknown(expression: Any) -> InexactError:
    return InexactError(f"{Shown(expression)}: only the database computes it")


_TRUTH = Values(Kind.BOOLEAN, plain=False)
_ARITHMETIC: dict[Any, Callable[[Any, Any], Any]] = {
    operators.add: add,
    operators.sub: subtract,
    operators.mul: multiply,
}
_COMPARISONS: dict[Any, Callable[[Any, Any], bool]] = {
    operators.eq: lambda left, right: number(left) == number(right),
    operators.ne: lambda left, right: number(left) != number(right),
    operators.lt: lambda left, right: number(left) < number(right),
    operators.le: lambda left, right: number(left) <= number(right),
    operators.gt: lambda left, right: number(left) > number(right),
    operators.ge: lambda left, right: number(left) >= number(right),
}
