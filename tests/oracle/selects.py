"""Building blocks of SELECT: joins, orders, limits, subqueries, windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from sqlalchemy import Integer, bindparam, exists, func, literal_column, select
from sqlalchemy.orm import join, outerjoin

from tests.oracle.expressions import Expressions
from tests.oracle.sources import Source, kind_of, linked, neighbours, of_model, of_table


class Selects(Expressions):
    """Chooses parts of SELECT statements."""

    # -- FROM ----------------------------------------------------------------------------------

    def joined(self, first: Source, count: int) -> tuple[list[Source], Any]:
        """Return sources and what they are joined to."""
        seen, joined = [first], first.entity
        for _ in range(count):
            right = self._next(seen)
            on = self._on(seen, right)
            kind = self.choose.random()
            if kind < 0.65:
                joined = join(joined, right.entity, on)
            elif kind < 0.95 or self.dialect == "mariadb":
                joined = outerjoin(joined, right.entity, on)
            else:
                joined = outerjoin(joined, right.entity, on, full=True)
            seen.append(right)
        return seen, joined

    def _next(self, seen: Sequence[Source]) -> Source:
        models = [one.model for one in seen]
        near = neighbours(self.choose.choice(models)) if all(models) else []
        if not near or self.chance(0.1):
            return self.model(alias=True)
        model = self.choose.choice(near)
        return of_model(model, alias=model in models or self.chance(0.2))

    def _on(self, seen: Sequence[Source], right: Source) -> Any:
        links = [on for left in seen if (on := linked(left, right)) is not None]
        on = self.choose.choice(links) if links and self.chance(0.9) else None
        if on is None:
            on = self._equal(self.choose.choice(seen), right)
        return on & self.predicate([right], 0) if self.chance(0.12) else on

    def _equal(self, left: Source, right: Source) -> Any:
        kinds = [kind for kind in ("int", "text", "size") if {kind} <= left.columns.keys()]
        kinds = [kind for kind in kinds if kind in right.columns]
        if not kinds:
            return literal_column("1") == 1
        kind = self.choose.choice(kinds)
        return self.column([left], [kind]) == self.column([right], [kind])

    # -- WHERE ---------------------------------------------------------------------------------

    def filtered(self, statement: Any, scope: Sequence[Source], most: int = 2) -> Any:
        """Return `statement` with none or some conditions."""
        for _ in range(self.choose.randint(0, most)):
            statement = statement.where(self.predicate(scope))
        return statement

    def subcondition(self, scope: Sequence[Source]) -> Any:
        """Return EXISTS, IN or a comparison with a scalar subquery."""
        outer = self.choose.choice(scope)
        inner, on = self._correlated(outer)
        where = [] if on is None else [on]
        if self.chance(0.5):
            where.append(self.predicate([inner], 1 if self.chance(0.2) else 0))
        column = self.column([inner], ["int"])
        mine = self.column([outer], ["int"])
        if column is None or mine is None or self.chance(0.4):
            found = exists(select(literal_column("1")).select_from(inner.entity).where(*where))
            return ~found if self.chance(0.35) else found
        if self.chance(0.15):
            return mine == select(self._extreme(column)).scalar_subquery()
        if self.chance(0.5):
            some = select(column).where(*(where if self.chance(0.3) else where[1:]))
            return mine.not_in(some) if self.chance(0.3) else mine.in_(some)
        count = select(self.aggregate([inner]) if self.chance(0.2) else func.count())
        found = count.select_from(inner.entity).where(*where).scalar_subquery()
        return (
            func.coalesce(mine, 0)
            > select(func.count()).select_from(inner.entity).where(*where).scalar_subquery()
            if self.chance(0.5)
            else found.is_not(None)
        )

    def _extreme(self, column: Any) -> Any:
        return (func.max if self.chance(0.5) else func.min)(column)

    def _correlated(self, outer: Source) -> tuple[Source, Any]:
        near = neighbours(outer.model) if outer.model is not None else []
        if not near or self.chance(0.1):
            inner = self.model(alias=True)
            return inner, self._equal(outer, inner)
        inner = of_model(self.choose.choice(near), alias=True)
        return inner, linked(outer, inner)

    def scalar(self, scope: Sequence[Source]) -> Any:
        """Return a scalar subquery that depends on the row, mostly."""
        outer = self.choose.choice(scope)
        inner, on = self._correlated(outer)
        found = select(self.aggregate([inner])).select_from(inner.entity)
        if on is not None and self.chance(0.85):
            found = found.where(on)
        return self.filtered(found, [inner], 1).scalar_subquery()

    # -- ORDER BY and LIMIT --------------------------------------------------------------------

    def order(self, scope: Sequence[Source], *, total: bool | None = None) -> list[Any]:
        """Return what to sort by; `total` orders leave no ties."""
        clauses = [self._directed(self._sorted_by(scope)) for _ in range(self.choose.randint(1, 2))]
        if self.chance(0.55) if total is None else total:
            clauses += [self._directed(key) for source in scope for key in source.keys]
        return clauses

    def _sorted_by(self, scope: Sequence[Source]) -> Any:
        return self.column(scope) if self.chance(0.75) else self.expression(scope)

    def _directed(self, clause: Any) -> Any:
        if clause is None:
            return func.length("x")
        clause = clause.desc() if self.chance(0.35) else clause
        if self.dialect != "mariadb" and self.chance(0.2):
            return clause.nulls_last() if self.chance(0.5) else clause.nulls_first()
        return clause

    def limited(self, statement: Any, *, offset: bool = True) -> Any:
        """Return `statement` with a limit, and perhaps an offset."""
        kind = self.choose.random()
        if kind < 0.08 and offset and self.dialect == "postgresql":
            return statement.offset(self.values.randint(0, 4))
        if kind < 0.2:
            self.params["most"] = self.values.randint(0, 6)
            return statement.limit(bindparam("most", type_=Integer))
        statement = statement.limit(self.values.randint(0, 6))
        return (
            statement.offset(self.values.randint(0, 4))
            if offset and self.chance(0.4)
            else statement
        )

    def finished(self, statement: Any, scope: Sequence[Source], share: float = 0.5) -> Any:
        """Return `statement`, perhaps sorted and limited."""
        if not self.chance(share):
            return self.limited(statement) if self.chance(0.04) else statement
        statement = statement.order_by(*self.order(scope))
        if self.dialect == "postgresql" and self.chance(0.05):
            return statement.fetch(self.values.randint(1, 4), with_ties=True)
        return self.limited(statement) if self.chance(0.5) else statement

    # -- columns -------------------------------------------------------------------------------

    def projection(self, scope: Sequence[Source], *, labels: bool = False) -> list[Any]:
        """Return columns and expressions to select."""
        columns = [self.expression(scope) for _ in range(self.choose.randint(1, 3))]
        for source in scope:
            if self.chance(0.7):
                columns += source.keys
        if self.chance(0.05):
            columns.append(self.window(scope))
        if labels:
            return [column.label(f"c{number}") for number, column in enumerate(columns)]
        columns = list({id(column): column for column in columns}.values())
        # A label may hide a column that is sorted or filtered by.
        names = self.choose.sample(["id", "name", "number", "score", "total", "other"], 6)
        return [
            column.label(name) if name and self.chance(0.12) else column
            for column, name in zip_longest(columns, names[: len(columns)])
        ]

    def window(self, scope: Sequence[Source]) -> Any:
        """Return a window function; one that numbers rows has a total order."""
        total = self.order(scope, total=True)
        part = [self.column(scope)] if self.chance(0.6) else None
        if part and self.chance(0.4) and scope[0].keys:
            part = [scope[0].keys[0]]
        number = self.column(scope, ["int", "number"])
        some = [self.column(scope)]
        ranked = all(source.keys for source in scope)
        makers = [
            lambda: func.rank().over(partition_by=part, order_by=some),
            lambda: func.dense_rank().over(partition_by=part, order_by=some),
            lambda: func.count().over(partition_by=part),
        ]
        if number is not None:
            makers += [
                lambda: func.sum(number).over(partition_by=part),
                lambda: func.sum(number).over(partition_by=part, order_by=some),
                lambda: func.max(number).over(partition_by=part),
            ]
        if ranked:
            makers += [
                lambda: func.row_number().over(partition_by=part, order_by=total),
                lambda: func.lag(self.column(scope, ["int"])).over(
                    partition_by=part, order_by=total
                ),
                lambda: func.first_value(some[0]).over(partition_by=part, order_by=total),
                lambda: func.ntile(3).over(order_by=total),
                lambda: func.count().over(order_by=total, rows=(-1, 1)),
            ]
        return self.choose.choice(makers)()

    # -- subqueries in FROM --------------------------------------------------------------------

    def derived(self) -> Source:
        """Return a subquery or a CTE, which may group, limit or unite."""
        inner, keys = self._derived_select()
        # A name that a table has, too, hides that table.
        name = self.choose.choice([None, None, None, "orders", "customers", "recent"])
        table = inner.cte(name) if self.chance(0.5) else inner.subquery(name)
        return of_table(table, [table.c[name] for name in keys])

    def _derived_select(self) -> tuple[Any, list[str]]:
        first = self.model()
        scope, joined = self.joined(first, self.choose.choice([0, 0, 1]))
        kind = self.choose.random()
        if kind < 0.3:
            group = self.column(scope)
            columns = [group.label("g"), func.count().label("n"), self.aggregate(scope).label("a")]
            inner = self.filtered(select(*columns).select_from(joined), scope)
            return inner.group_by(group), ["g"]
        keys = [key for source in scope for key in source.keys]
        columns = [key.label(f"k{number}") for number, key in enumerate(keys)]
        columns += [self.expression(scope).label(f"e{n}") for n in range(2)]
        inner = self.filtered(select(*columns).select_from(joined), scope)
        names = [column.name for column in columns[: len(keys)]]
        if kind < 0.5:
            inner = self.limited(inner.order_by(*self.order(scope, total=True)))
        elif kind < 0.6:
            inner = inner.distinct()
        elif kind < 0.7:
            inner = inner.add_columns(self.window(scope).label("w"))
        return inner, names

    def same_kinds(self, kinds: Sequence[str]) -> Any:
        """Return a SELECT of columns of these kinds, for a set operation."""
        while True:
            source = self.model(alias=True)
            columns = [self.column([source], [kind]) for kind in kinds]
            if all(column is not None for column in columns):
                named = [column.label(f"u{number}") for number, column in enumerate(columns)]
                return self.filtered(select(*named), [source], 1)

    @staticmethod
    def kinds(columns: Sequence[Any]) -> list[str]:
        """Return the kinds of columns."""
        return [kind_of(column) for column in columns]
