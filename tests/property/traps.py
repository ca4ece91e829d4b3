"""Statements of the kinds that routers get wrong, with random values."""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import and_, bindparam, false, func, or_, select, text
from sqlalchemy.orm import aliased

from tests.property.worlds import HOT, SLUGS, Country, Customer, Item, Note, Order, Tag

Trap = tuple[Any, dict[str, Any]]


class Traps:
    """Builds one statement of each kind; `choose` decides its structure, `values` the values."""

    def __init__(self, choose: random.Random, values: random.Random) -> None:
        self.choose = choose
        self.values = values

    def any(self) -> Trap:
        """Return a statement of any kind, and its parameters."""
        kinds = [name for name in dir(self) if name.startswith("of_")]
        built = getattr(self, self.choose.choice(kinds))()
        return built if isinstance(built, tuple) else (built, {})

    def key(self) -> int:
        """Return a key of which there are rows."""
        return self.values.choice(HOT)

    # -- semi-joins --------------------------------------------------------------------------------

    def of_reference_rows_tested_on_shards(self) -> Any:
        """Each shard has the country; one database has it once."""
        inner = select(Customer.id).where(Customer.country == Country.code)
        test = inner.exists()
        if self.choose.random() < 0.5:
            test = Country.code.in_(select(Customer.country))
        return select(Country.code).where(test)

    def of_rows_tested_elsewhere(self) -> Any:
        """The tested rows may be on any shard."""
        test = select(Order.number).where(Order.total == 7, Order.customer_id != self.key())
        return select(Customer.id).where(test.exists(), Customer.id == self.key())

    def of_rows_not_found(self) -> Any:
        """The rows that must not be there may be on any shard."""
        inner = select(Note.customer_id).where(Note.order_number == 1)
        return select(Customer.id).where(Customer.id.not_in(inner), Customer.id == self.key())

    # -- outer joins -------------------------------------------------------------------------------

    def of_missing_partners(self) -> Any:
        """A partner on another shard is no missing partner."""
        other = aliased(Note)
        joined = select(Note.id, other.id).outerjoin(other, other.order_number == Note.order_number)
        return joined.where(other.customer_id.is_(None), Note.customer_id.is_(None))

    def of_constants_in_the_on(self) -> Any:
        """The ON restricts one side only."""
        side = self.choose.choice([Customer.id, Order.customer_id])
        on = and_(Order.customer_id == Customer.id, side == self.key())
        return select(Customer.id, Order.number).outerjoin(Order, on)

    def of_full_joins(self) -> Any:
        """Both sides keep their unmatched rows."""
        side = self.choose.choice([Customer.id, Order.customer_id])
        on = and_(Order.customer_id == Customer.id, Order.total == 7)
        joined = select(Customer.id, Order.number).join(Order, on, full=True)
        return joined if self.choose.random() < 0.3 else joined.where(side == self.key())

    def of_reference_rows_kept(self) -> Any:
        """Countries without customers are there once."""
        on = Customer.country == Country.code
        return select(Country.code, Customer.id).outerjoin(Customer, on)

    # -- derived tables ----------------------------------------------------------------------------

    def of_few_rows_of_anyone(self) -> Any:
        """The LIMIT comes before the key."""
        few = select(Order.customer_id, Order.number)
        few = few.order_by(Order.number, Order.customer_id).limit(4).subquery()
        return select(few).where(few.c.customer_id == self.key())

    def of_ranked_rows(self) -> Any:
        """The window comes before the key."""
        rank = func.row_number().over(order_by=(Order.number, Order.customer_id)).label("rank")
        ranked = select(Order.customer_id, rank).subquery()
        return select(ranked).where(ranked.c.customer_id == self.key())

    def of_columns_of_the_other_mention(self) -> Any:
        """The column is of the alias, not of the table beside it."""
        other = aliased(Order)
        pair = select(other.customer_id, Order.number).where(Order.total == other.total)
        extra = self.choose.choice([other.customer_id, Order.customer_id]) == self.key()
        derived = pair.where(extra).subquery()
        return select(derived).where(derived.c.customer_id == self.key())

    def of_counts_of_nothing(self) -> Any:
        """An aggregate gives a row even of no rows, and with it what is computed beside it."""
        inner = select(func.count(Order.number))
        if self.choose.random() < 0.5:
            inner = inner.where(Order.customer_id == Customer.id).correlate(Customer)
        outer = select(func.count(), inner.scalar_subquery()).select_from(Customer)
        return outer.where(self.choose.choice([false(), Customer.id == self.key()]))

    def of_null_beside_a_count(self) -> Any:
        """The NULL that an empty aggregate shows is not a key."""
        counted = select(Order.customer_id.label("k"), func.count().label("n"))
        derived = counted.where(Order.customer_id == self.key()).subquery()
        return select(derived.c.n).where(derived.c.k.is_(None))

    # -- the rest ----------------------------------------------------------------------------------

    def of_members_of_a_union(self) -> Any:
        """What holds in one member does not hold in the others."""
        first = self.choose.choice([false(), Customer.id == self.key()])
        second = self.choose.choice([Order.customer_id == self.key(), Order.total == 7])
        return select(Customer.id).where(first).union_all(select(Order.customer_id).where(second))

    def of_walks(self) -> Any:
        """Later turns are about other keys."""
        step = aliased(Item)
        walk = select(Item.id, Item.owner).where(Item.id == self.key()).cte(recursive=True)
        on = step.id == self.choose.choice([walk.c.id, walk.c.owner])
        more = select(step.id, step.owner).join(walk, on)
        return select(walk.union(more))

    def of_loose_text(self) -> Any:
        """An OR in text reaches over the AND beside it."""
        words = self.choose.choice(["1 = 1 OR 1 = 2", "(1 = 2 OR 1 = 1)", "1 = 1"])
        return select(Customer.id).where(text(words), Customer.id == self.key())

    def of_lists_used_twice(self) -> Trap:
        """A list that means something elsewhere, too, is not divided."""
        keys = bindparam("keys", expanding=True)
        both = or_(Customer.score.in_(keys), Customer.score.is_(None))
        statement = select(Customer.id).where(Customer.id.in_(keys), both)
        return statement, {"keys": [self.key() for _ in range(4)]}

    def of_text_in_order(self) -> Any:
        """Sharding functions and databases may sort text differently."""
        slug = self.values.choice(SLUGS)
        return select(Tag.slug).where(Tag.slug >= slug, Tag.slug.in_(SLUGS))

    def of_null_keys(self) -> Any:
        """NULL keys have a shard, and equal nothing."""
        some = or_(Note.customer_id.is_(None), Note.customer_id == self.key())
        return select(Note.id).where(self.choose.choice([some, Note.customer_id.is_(None)]))
