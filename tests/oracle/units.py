"""Random units of work: the same calls on a session of the shards and on one of one database."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import delete, exists, func, insert, inspect, select, update
from sqlalchemy.orm import Session

from tests.oracle.rows import COUNTRIES, KEYS, STATUSES, WORDS
from tests.oracle.schema import (
    Account,
    Campaign,
    Contact,
    Country,
    Customer,
    Invoice,
    Line,
    Note,
    Order,
    Setting,
)

MODELS = (Customer, Order, Line, Note, Account, Contact, Campaign, Invoice, Setting, Country)
Answer = tuple[Any, ...]
Action = Callable[[Session], Answer]
"""Does something with a session, and returns what a user would see of it."""


class Units:
    """Makes actions; every choice is made here, so that both sessions do the same.

    Attributes
    ----------
    inserts, saves:
        Classes of which rows are inserted, and objects saved past the unit of work.
    """

    inserts: Sequence[type[Any]] = (Customer, Note, Order, Account, Campaign, Invoice)
    saves: type[Any] = Customer

    def __init__(self, seed: str) -> None:
        self._random = random.Random(f"units {seed}")
        self._fresh = 1000

    def unit(self) -> list[tuple[str, Action]]:
        """Return the actions of one unit of work, with their names."""
        makers = [
            self.added,
            self.changed,
            self.removed,
            self.moved,
            self.inserted,
            self.returned,
            self.updated,
            self.updated,
            self.deleted,
            self.found,
            self.found,
            self.updated_by_key,
            self.selected,
            self.merged,
            self.saved,
            self.undone,
            self.computed,
        ]
        chosen = [self._random.choice(makers) for _ in range(self._random.randint(1, 5))]
        return [(one.__name__, one()) for one in chosen]

    def _one(self, values: Any) -> Any:
        return self._random.choice(list(values))

    def _new(self) -> int:
        self._fresh += 1
        return self._fresh

    # -- objects -----------------------------------------------------------------------------

    def added(self) -> Action:
        """New objects of several shards and keyspaces, flushed together."""
        keys = [self._new() for _ in range(self._random.randint(1, 4))]
        words = [self._one(WORDS) for _ in keys]
        country = self._one(COUNTRIES)

        def act(session: Session) -> Answer:
            for key, word in zip(keys, words, strict=True):
                orders = [Order(number=n, status=word) for n in range(2)]
                orders[0].lines = [Line(position=1, quantity=key)]
                customer = Customer(id=key, name=word, country_code=country, orders=orders)
                session.add_all([customer, Note(id=key, customer=customer, title=word)])
                session.add(Account(id=key, owner=word, contacts=[Contact(position=key)]))
            session.flush()
            return ()

        return act

    def changed(self) -> Action:
        """Attributes of loaded objects."""
        model, word, number = self._one([Customer, Order, Note]), self._one(WORDS), self._one(KEYS)

        def act(session: Session) -> Answer:
            for one in self._loaded(session, model)[number % 3 :: 3]:
                if isinstance(one, Customer):
                    one.name, one.score = word, number
                elif isinstance(one, Order):
                    one.status = word
                else:
                    one.title = word
            session.flush()
            return ()

        return act

    def removed(self) -> Action:
        """Objects with what belongs to them."""
        key = self._one(KEYS)

        def act(session: Session) -> Answer:
            for order in session.scalars(select(Order).where(Order.customer_id == key)).all():
                for line in order.lines:
                    session.delete(line)
                session.delete(order)
            session.flush()
            return ()

        return act

    def moved(self) -> Action:
        """Rows that get another shard key."""
        old, new, how = self._one(KEYS), self._one(KEYS), self._random.random()

        def act(session: Session) -> Answer:
            if how < 0.5:
                for note in session.scalars(select(Note).where(Note.customer_id == old)).all():
                    note.customer_id, note.title = new, "moved"
            else:
                bare = select(Order).where(Order.customer_id == old, ~Order.lines.any())
                for order in session.scalars(bare.order_by(Order.number)).all()[:1]:
                    order.customer = session.get_one(Customer, new)
            session.flush()
            return ()

        return act

    def computed(self) -> Action:
        """Attributes that the database computes, from what the shard of their row can know."""
        keys, fresh, step = self._random.sample(KEYS, 3), self._new(), self._one(KEYS)

        def value(key: int) -> dict[str, Any]:
            own = select(func.count()).where(Note.customer_id == Customer.id)
            named = select(func.max(Order.number)).where(Order.customer_id == key)
            return {
                "score": (
                    func.coalesce(Customer.score, 0) + step,
                    own.correlate(Customer).scalar_subquery(),
                    func.coalesce(named.scalar_subquery(), 0) + step,
                )[(key + step) % 3],
                "name": select(func.min(Country.code)).scalar_subquery(),
            }

        def act(session: Session) -> Answer:
            for one in session.scalars(select(Customer).where(Customer.id.in_(keys))).all():
                for name, computed in value(one.id).items():
                    setattr(one, name, computed)
            country = select(func.max(Country.code)).scalar_subquery()
            session.add(Customer(id=fresh, name=func.upper("new"), country_code=country))
            session.flush()
            return ()

        return act

    def merged(self) -> Action:
        """Detached objects."""
        key, word = self._one([*KEYS, self._new()]), self._one(WORDS)

        def act(session: Session) -> Answer:
            session.merge(Customer(id=key, name=word))
            session.flush()
            return (session.get_one(Customer, key).name,)

        return act

    def undone(self) -> Action:
        """What a savepoint takes back."""
        key, word = self._new(), self._one(WORDS)

        def act(session: Session) -> Answer:
            with session.begin_nested() as savepoint:
                session.add(Customer(id=key, name=word))
                session.execute(update(Order).values(status=word))
                savepoint.rollback()
            return (session.get(Customer, key),)

        return act

    # -- statements --------------------------------------------------------------------------

    def _rows(self, model: Any) -> list[dict[str, Any]]:
        rows = []
        for _ in range(self._random.randint(1, 6)):
            key, word = self._new(), self._one(WORDS)
            rows.append(
                {
                    Customer: {"id": key, "name": word},
                    Note: {"id": key, "customer_id": self._one([*KEYS, None]), "title": word},
                    Order: {"customer_id": self._one(KEYS), "number": key, "status": word},
                    Account: {"id": key, "owner": word},
                    Campaign: {"region": self._one(["EU", "US", "AP"]), "number": key},
                    Invoice: {"id": key, "label": word},
                }[model]
            )
        return rows

    def inserted(self) -> Action:
        """Rows as parameters and as values, through the ORM and past it."""
        model = self._one(self.inserts)
        rows, form = self._rows(model), self._random.random()
        target = model if self._random.random() < 0.5 else model.__table__

        def act(session: Session) -> Answer:
            if form < 0.3:
                session.execute(insert(target).values(rows))
            elif form < 0.8:
                session.execute(insert(target), rows)
            else:
                session.bulk_insert_mappings(model, [dict(row) for row in rows])
            return ()

        return act

    def returned(self) -> Action:
        """Rows with RETURNING, in the order of their parameters."""
        model = self._one([Customer, Note, Account])
        rows = self._rows(model)

        def act(session: Session) -> Answer:
            made = insert(model).returning(model, sort_by_parameter_order=True)
            return tuple(one.id for one in session.scalars(made, rows))

        return act

    def updated(self) -> Action:
        """UPDATE by criteria, over some shards or all."""
        keys = [self._one(KEYS) for _ in range(self._random.randint(1, 4))]
        word, how = self._one(WORDS), self._one(["auto", "evaluate", "fetch", False])
        counted = select(func.count()).where(Order.customer_id == Customer.id).scalar_subquery()
        writes = [
            update(Customer).where(Customer.id.in_(keys)).values(name=word),
            update(Customer).where(Customer.score > keys[0] % 4).values(score=Customer.score + 1),
            update(Order).where(Order.status == self._one(STATUSES)).values(status=word),
            update(Order).where(Order.customer_id == keys[0]).values(paid=True),
            update(Note).where(Note.title != word).values(title=Note.title + "x"),
            update(Account).where(Account.id.between(2, 9)).values(owner=word),
            update(Country).where(Country.code == self._one(COUNTRIES)).values(name=word),
            update(Setting).values(value=Setting.value + 1),
            update(Note).where(Note.customer_id.is_(None)).values(body=word),
        ]
        by_database = [
            update(Customer).values(score=counted),
            update(Customer).where(exists().where(Note.customer_id == Customer.id)).values(score=0),
            update(Line)
            .where(Line.customer_id == Order.customer_id, Order.number == 1)
            .where(Line.order_number == Order.number)
            .values(quantity=9),
        ]
        if self._random.random() < 0.25:
            return self._executed(self._one(by_database), self._one(["fetch", False]))
        return self._executed(self._one(writes), how)

    def deleted(self) -> Action:
        """DELETE by criteria."""
        key, word = self._one(KEYS), self._one(WORDS)
        writes = [
            delete(Note).where(Note.title == word),
            delete(Line).where(Line.quantity == key % 6),
            delete(Contact).where(Contact.account_id.in_([key, key + 2, 20])),
            delete(Note).where(~exists().where(Order.customer_id == Note.customer_id)),
            delete(Campaign).where(Campaign.number > 900),
        ]
        how = self._one(["auto", "fetch", False])
        return self._executed(self._one(writes), how)

    def found(self) -> Action:
        """UPDATE and DELETE whose rows depend on other places, or change their shard."""
        key, other, word = self._one(KEYS), self._one(KEYS), self._one(WORDS)
        ids, names = select(Invoice.id), select(Account.owner)
        largest = select(func.max(Customer.score)).scalar_subquery()
        near = select(func.count()).where(Invoice.id < Customer.id).scalar_subquery()
        writes = [
            delete(Note).where(Note.id.in_(ids), Note.id > key),
            delete(Account).where(Account.id.in_(select(Note.id)), Account.id > 900),
            update(Customer).where(Customer.name.in_(names)).values(score=Customer.score - 1),
            update(Customer).where(Customer.score == largest).values(name=word),
            update(Customer).where(Customer.id > key).values(score=near, name=word),
            update(Account).where(~exists().where(Note.title == Account.owner)).values(owner=word),
            update(Invoice).where(Invoice.label.in_(select(Customer.name))).values(label=word),
            update(Note).where(Note.customer_id == key).values(customer_id=other, title=word),
            update(Note).where(Note.id.in_(ids)).values(customer_id=Note.customer_id + 1),
        ]
        return self._executed(self._one(writes), self._one(["auto", "fetch"]))

    def _executed(self, write: Any, how: Any) -> Action:
        def act(session: Session) -> Answer:
            self._loaded(session, Customer)
            self._loaded(session, Note)
            found = session.execute(write, execution_options={"synchronize_session": how})
            return (found.rowcount,)

        return act

    def updated_by_key(self) -> Action:
        """The ORM's bulk UPDATE."""
        rows = [{"id": key, "name": self._one(WORDS)} for key in self._random.sample(KEYS, 4)]
        legacy = self._random.random() < 0.3

        def act(session: Session) -> Answer:
            if legacy:
                session.bulk_update_mappings(Customer, [dict(row) for row in rows])
            else:
                session.execute(update(Customer), rows)
            return ()

        return act

    def selected(self) -> Action:
        """INSERT ... SELECT, within the shards and across."""
        base, key = 10 * self._new(), self._one(KEYS)
        self._fresh += 100
        writes = [
            insert(Note).from_select(
                ["id", "customer_id", "title"],
                select(Customer.id + base, Customer.id, Customer.name).where(Customer.id < 15),
            ),
            insert(Order).from_select(
                ["customer_id", "number", "status"],
                select(Customer.id, Customer.id + base, Customer.name).where(Customer.id < key),
            ),
            insert(Invoice).from_select(
                ["id", "customer_id", "label"],
                select(Customer.id + base, Customer.id, Customer.name).where(Customer.id < 15),
            ),
            insert(Account).from_select(
                ["id", "owner"], select(Invoice.id + base, Invoice.label).where(Invoice.id < 13)
            ),
        ]
        write = self._one(writes)

        def act(session: Session) -> Answer:
            session.execute(write)
            return ()

        return act

    def saved(self) -> Action:
        """Objects past the unit of work."""
        model: Any = self.saves
        rows = self._rows(model)

        def act(session: Session) -> Answer:
            session.bulk_save_objects([model(**row) for row in rows])
            return ()

        return act

    @staticmethod
    def _loaded(session: Session, model: Any) -> list[Any]:
        keys = inspect(model).primary_key
        found = list(session.scalars(select(model).order_by(*keys)))
        # A session forgets what nobody holds.
        session.info.setdefault("kept", []).extend(found)
        return found


def objects(session: Session) -> Counter[Any]:
    """Return the loaded attributes of every object in a session."""
    gc.collect()
    return Counter(_shown(session))


def _shown(session: Session) -> Iterator[Any]:
    for one in session.identity_map.values():
        state = inspect(one)
        names = [column.key for column in state.mapper.column_attrs]
        loaded = {name: one.__dict__[name] for name in names if name in one.__dict__}
        yield type(one).__name__, state.key[1], repr(sorted(loaded.items()))
