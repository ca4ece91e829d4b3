"""Random units of work for guarded sessions: mostly about one key, now and then about others."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session, joinedload, make_transient_to_detached, selectinload

from tests.oracle.rows import KEYS, WORDS
from tests.oracle.schema import Asset, Customer, Line, Note, Order, Product, Vehicle
from tests.oracle.units import Action, Answer, Units

OWN = 0.8
"""How often a key is the guarded one."""

OWN_MODELS = (Customer, Order, Line, Note, Asset, Vehicle)


class GuardedUnits(Units):
    """Makes actions of a session that is guarded by `key`."""

    inserts = (Note, Order)
    saves = Note

    def __init__(self, seed: str, key: int) -> None:
        super().__init__(f"{seed} {key}")
        self._key = key

    def _one(self, values: Any) -> Any:
        if values is KEYS and self._random.random() < OWN:
            return self._key
        return super()._one(values)

    def unit(self) -> list[tuple[str, Action]]:
        """Return the actions of one unit of work, with their names."""
        makers = [
            self.changed,
            self.removed,
            self.moved,
            self.inserted,
            self.updated,
            self.deleted,
            self.found,
            self.updated_by_key,
            self.selected,
            self.merged,
            self.saved,
            self.undone,
            self.added,
            self.swept,
            self.swept,
            self.attached,
            self.read,
            self.made_up,
            self.related,
        ]
        chosen = [self._random.choice(makers) for _ in range(self._random.randint(1, 4))]
        return [(one.__name__, one()) for one in chosen]

    def added(self) -> Action:
        """New objects below a customer."""
        key, number, word = self._one(KEYS), self._new(), self._one(WORDS)

        def act(session: Session) -> Answer:
            order = Order(customer_id=key, number=number, status=word)
            order.lines = [Line(position=1, quantity=key)]
            session.add_all([order, Note(id=number, customer_id=key, title=word)])
            session.add(Vehicle(customer_id=key, number=number, name=word, wheels=3))
            session.flush()
            return ()

        return act

    def _rows(self, model: Any) -> list[dict[str, Any]]:
        model = Order if model not in (Note, Order) else model
        found = []
        for _ in range(self._random.randint(1, 4)):
            own = {"customer_id": self._one(KEYS)}
            named = {"id": self._new()} if model is Note else {"number": self._new()}
            found.append({**own, **named})
        return found

    def updated_by_key(self) -> Action:
        """The ORM's bulk UPDATE."""
        key, word, legacy = self._one(KEYS), self._one(WORDS), self._random.random() < 0.3
        given = [{"customer_id": key, "number": at, "status": word} for at in range(2)]

        def act(session: Session) -> Answer:
            here = set(session.scalars(select(Order.number).where(Order.customer_id == key)))
            some = [row for row in given if row["number"] in here]
            if some and legacy:
                session.bulk_update_mappings(Order, some)
            elif some:
                session.execute(update(Order), some)
            return (len(some),)

        return act

    def swept(self) -> Action:
        """Writes that say nothing of a key."""
        word, how = self._one(WORDS), self._one(["auto", "fetch", "evaluate", False])
        counted = select(func.count()).where(Order.customer_id == Customer.id).scalar_subquery()
        lines = exists().where(Line.customer_id == Order.customer_id, Line.quantity == 0)
        writes = [
            (update(Customer).values(name=word), how),
            (update(Order).values(status=word), how),
            (update(Note).values(title=Note.title + "x"), how),
            (update(Vehicle).values(wheels=7), how),
            (update(Customer).values(score=counted), "fetch"),
            (update(Order).where(lines).values(paid=True), "fetch"),
            (update(Order).where(Order.lines.any(Line.quantity > 1)).values(paid=True), "fetch"),
            (update(Note).where(Note.title.in_(select(Customer.name))).values(body=word), "fetch"),
            (delete(Line).where(Line.quantity == 0), how),
            (delete(Note).where(~exists().where(Order.status == Note.title)), "fetch"),
            (delete(Note), "fetch"),
        ]
        weights = [1] * (len(writes) - 1) + [0.2]
        return self._executed(*self._random.choices(writes, weights)[0])

    def attached(self) -> Action:
        """Objects that a session has not loaded itself."""
        key, word, load = self._one(KEYS), self._one(WORDS), self._random.random() < 0.5

        def act(session: Session) -> Answer:
            if session.scalar(select(Customer.id).where(Customer.id == key)) is None:
                return ()
            one = Customer(id=key)
            make_transient_to_detached(one)
            one = session.merge(one, load=False) if load else _added(session, one)
            one.name = word
            session.flush()
            session.expire(one)
            return one.name, len(one.orders)

        return act

    def read(self) -> Action:
        """Objects with what belongs to them, and by their keys."""
        key, number, load = self._one(KEYS), self._one(range(1, 25)), self._one(LOADERS)
        model, name = self._one(RELATED)

        def act(session: Session) -> Answer:
            query = select(model).options(load(getattr(model, name)))
            found = session.scalars(query).unique().all()
            session.info.setdefault("kept", []).extend(found)
            near = sorted(len(list(_several(getattr(one, name)))) for one in found)
            note, customer = session.get(Note, number), session.get(Customer, key)
            session.expire_all()
            names = [customer and customer.name, note and note.title]
            return tuple(near), *names, len(customer.notes) if customer else None

        return act

    def made_up(self) -> Action:
        """A row that an object says is its own."""
        number, word, gone = self._one(range(1, 25)), self._one(WORDS), self._random.random() < 0.5

        def act(session: Session) -> Answer:
            if session.scalar(select(Note.id).where(Note.id == number)) is None:
                note = Note(id=number, customer_id=self._key, title="")
                make_transient_to_detached(note)
                session.add(note)
                note.title = word
                if gone:
                    session.delete(note)
                session.flush()
            return ()

        return act

    def related(self) -> Action:
        """Rows of an association table."""
        key, product = self._one(KEYS), self._one(range(1, 6))

        def act(session: Session) -> Answer:
            customer, found = session.get_one(Customer, key), session.get_one(Product, product)
            if found in customer.favourites:
                customer.favourites.remove(found)
            else:
                customer.favourites.append(found)
            session.flush()
            return (len(customer.favourites),)

        return act


LOADERS = (joinedload, selectinload)
RELATED = (
    (Customer, "orders"),
    (Customer, "notes"),
    (Customer, "favourites"),
    (Customer, "assets"),
    (Order, "lines"),
    (Order, "customer"),
    (Line, "order"),
    (Line, "product"),
    (Note, "customer"),
)


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _added(session: Session, one: Any) -> Any:
    session.add(one)
    return one
