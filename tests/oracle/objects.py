"""Generated statements of the ORM: objects, their loads, and the legacy Query."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import (
    Bundle,
    Query,
    aliased,
    contains_eager,
    defer,
    joinedload,
    lazyload,
    load_only,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
    with_polymorphic,
)

from tests.oracle import schema as s
from tests.oracle.selects import Selects
from tests.oracle.sources import ROW_KEYS, Source, of_model

Loaded = tuple[Any, tuple[str, ...]]
"""A statement, and the relationships to load lazily on what it returns."""

CHAINS: dict[Any, list[list[Any]]] = {
    s.Customer: [
        [s.Customer.orders],
        [s.Customer.orders, s.Order.lines],
        [s.Customer.notes],
        [s.Customer.country],
        [s.Customer.invoices],
        [s.Customer.favourites],
        [s.Customer.assets],
        [s.Customer.assets.of_type(with_polymorphic(s.Asset, "*", flat=True))],
    ],
    s.Order: [[s.Order.customer], [s.Order.lines], [s.Order.lines, s.Line.product]],
    s.Line: [[s.Line.order], [s.Line.product], [s.Line.order, s.Order.customer]],
    s.Note: [[s.Note.customer], [s.Note.customer, s.Customer.country]],
    s.Account: [[s.Account.contacts], [s.Account.customer]],
    s.Contact: [[s.Contact.account], [s.Contact.account, s.Account.customer]],
    s.Invoice: [[s.Invoice.customer]],
}
LOADERS = (joinedload, selectinload, selectinload, subqueryload, lazyload)


class Objects(Selects):
    """Chooses statements that load objects."""

    def objects(self) -> Loaded:
        """Return a statement of the ORM."""
        return self.any_of(
            (6, self._eager),
            (3, self._entities),
            (2, self._contained),
            (2, self._related),
            (1, self._bundled),
            (1, self._criteria),
            (1, self._columns_of),
            (1, self._from_statement),
            (1, self._inherited),
            (1, self._of_subquery),
        )

    def _model_with_relations(self) -> Source:
        model = self.choose.choice(list(CHAINS))
        return of_model(model)

    def _mapped(self) -> Source:
        while True:
            source = self.model()
            if source.model is not s.Ticket:
                return source

    def _eager(self) -> Loaded:
        source = self._model_with_relations()
        chains = CHAINS[source.model]
        statement = self.filtered(select(source.entity), [source])
        for chain in self.choose.sample(
            chains, self.choose.choice([0, 1, 1, 2]) % (len(chains) + 1)
        ):
            statement = statement.options(self._loader(chain))
        touch = tuple(chain[0].key for chain in chains) if self.chance(0.3) else ()
        return self._sorted(statement, source), touch

    def _loader(self, chain: list[Any]) -> Any:
        option = self.choose.choice(LOADERS)(chain[0])
        for step in chain[1:]:
            name = self.choose.choice(LOADERS).__name__
            option = getattr(option, name)(step)
        return option

    def _sorted(self, statement: Any, source: Source) -> Any:
        # Ties of objects cannot always be told apart, so a limit has a total order here.
        if not self.chance(0.5):
            return statement
        statement = statement.order_by(*self.order([source], total=True))
        return self.limited(statement) if self.chance(0.5) else statement

    def _entities(self) -> Loaded:
        source = self._mapped()
        scope, joined = self.joined(source, self.choose.choice([0, 1, 1]))
        shown = [one.entity for one in scope if one.model is not s.Ticket]
        if self.chance(0.3):
            shown = shown[:1]
        if self.chance(0.3):
            shown.append(self.expression(scope))
        statement = self.filtered(select(*shown).select_from(joined), scope)
        return self.finished(statement, scope), ()

    def _contained(self) -> Loaded:
        source = self._model_with_relations()
        relation = self.choose.choice(CHAINS[source.model])[0]
        target = relation.property.mapper.class_
        if self.chance(0.3):
            other = of_model(target, alias=True)
            along = relation.of_type(other.entity)
            statement = select(source.entity, other.entity).join(along, isouter=self.chance(0.5))
            return self.finished(self.filtered(statement, [source, other]), [source, other]), ()
        statement = select(source.entity).join(relation, isouter=self.chance(0.5))
        statement = statement.options(contains_eager(relation))
        if relation.property.order_by:
            # What the rows say is the order of the collection; objects that the first row of
            # several places would be ties that no rank can tell.
            key = relation.parent.primary_key
            statement = statement.order_by(*key, *relation.property.order_by)
        return self.filtered(statement, [source, of_model(target)]), ()

    def _related(self) -> Loaded:
        """Conditions on related rows, written with the relationship."""
        source = self._model_with_relations()
        relation = self.choose.choice(CHAINS[source.model])[0]
        target = of_model(relation.property.mapper.class_)
        criterion = self.predicate([target], 0)
        ask = relation.any if relation.property.uselist else relation.has
        deeper = CHAINS.get(target.model)
        if deeper and self.chance(0.25):
            inner = deeper[0][0]
            criterion = inner.any() if inner.property.uselist else inner.has()
        found = ask(criterion) if self.chance(0.7) else ask()
        statement = select(source.entity).where(~found if self.chance(0.3) else found)
        return self._sorted(statement, source), ()

    def _bundled(self) -> Loaded:
        source = self._mapped()
        columns = [self.column([source]) for _ in range(2)]
        bundle = Bundle("bundle", source.keys[0].label("first"), columns[0].label("second"))
        return self.finished(self.filtered(select(bundle, columns[1]), [source]), [source]), ()

    def _criteria(self) -> Loaded:
        source = of_model(s.Customer)
        criteria = with_loader_criteria(s.Order, s.Order.number > self.values.choice([0, 1]))
        loader = self.choose.choice([selectinload, joinedload])(s.Customer.orders)
        return self._sorted(select(s.Customer).options(loader, criteria), source), ()

    def _columns_of(self) -> Loaded:
        source = of_model(s.Customer)
        option = self.any_of(
            lambda: load_only(s.Customer.name, s.Customer.score),
            lambda: defer(s.Customer.balance),
            lambda: undefer(s.Customer.orders_placed),
        )
        statement = self.filtered(select(s.Customer).options(option), [source])
        return self._sorted(statement, source), ()

    def _from_statement(self) -> Loaded:
        source = of_model(s.Customer)
        inner = self.filtered(select(s.Customer.__table__), [source], 1)
        column = s.Customer.__table__.c.id
        inner = inner.where(column > self.values.choice([0, 3])).order_by(column)
        inner = inner.limit(self.values.randint(1, 5)) if self.chance(0.5) else inner
        return select(source.entity).from_statement(inner), ()

    def _of_subquery(self) -> Loaded:
        source = self._mapped()
        inner = self.filtered(select(source.entity), [source], 1)
        if self.chance(0.5):
            inner = self.limited(inner.order_by(*self.order([source], total=True)))
        entity = aliased(source.entity, inner.subquery())
        found = select(entity)
        if self.chance(0.5):
            found = found.order_by(*(getattr(entity, key) for key in ROW_KEYS[source.model]))
        return found, ()

    def _inherited(self) -> Loaded:
        every = with_polymorphic(s.Asset, "*", flat=self.chance(0.5))
        entity = self.choose.choice([s.Asset, s.Vehicle, s.House, every])
        found = select(entity).where(entity.customer_id > self.values.choice([0, 3, 7]))
        if self.chance(0.4):
            found = found.where(entity.name != self.value("text"))
        if self.chance(0.6):
            found = found.order_by(entity.name.desc(), entity.customer_id, entity.number)
            found = self.limited(found) if self.chance(0.5) else found
        return found, ()

    # -- the legacy Query ----------------------------------------------------------------------

    def query(self) -> Loaded:
        """Return a `Query`, as older programs write it."""
        source = self._mapped()
        query: Any = Query([source.entity])
        for _ in range(self.choose.randint(0, 2)):
            query = query.filter(self.predicate([source]))
        kind = self.choose.random()
        if kind < 0.3:
            return query.order_by(*self.order([source], total=True)), ()
        if kind < 0.5:
            query = query.order_by(*self.order([source], total=True))
            return self.limited(query), ()
        if kind < 0.65:
            return query.with_entities(func.count(source.keys[0])), ()
        if kind < 0.8:
            grouped = self.column([source])
            return query.with_entities(grouped, func.count()).group_by(grouped), ()
        if kind < 0.9:
            return Query([func.count()]).select_from(query.subquery()), ()
        return query, ()
