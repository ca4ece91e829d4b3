"""What may be tried where the guarded key is a pair, and parts of it are NULL.

A case is given a session and the key, and returns plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import (
    Session,
    aliased,
    immediateload,
    joinedload,
    make_transient_to_detached,
    selectinload,
    subqueryload,
    undefer,
    with_parent,
)

from tests.session.guarded_cases import ids, rows
from tests.session.guarded_pairs import KEYS, Entry, Item, Key, Owner

Case = Callable[[Session, Key], Any]
items, entries = Item.__table__, Entry.__table__


def named(key: Key) -> dict[str, Any]:
    """Return the values of a key by the names that items have for them."""
    return dict(zip(("region", "owner_id"), key, strict=True))


def another(key: Key) -> Key:
    """Return a key that is half of a guarded one."""
    return next(one for one in KEYS if one != key and one[0] == key[0])


def of(session: Session, key: Key) -> Item:
    """Return the first item of a key."""
    return session.get_one(Item, first(key))


def first(key: Key) -> int:
    """Return the first item's id."""
    return KEYS.index(key) * 10


def families(session: Session, *options: Any) -> list[Any]:
    """Return items with what is above and below them."""
    found = session.scalars(select(Item).options(*options)).unique().all()
    return sorted(
        (one.id, one.above.id if one.above else None, sorted(child.id for child in one.below))
        for one in found
    )


def optional(session: Session, _key: Key) -> list[Any]:
    """Return what outer joins find, and what they miss, of another's rows."""
    below, above = aliased(Item), aliased(Item)
    found = select(Item.id, below.id).outerjoin(below, below.above_id == Item.id)
    return [
        rows(session, found),
        rows(session, found.where(below.id.is_(None))),
        rows(session, select(Item.id, above.id).outerjoin(Item.above.of_type(above))),
        rows(session, select(Item.id, Entry.number).outerjoin(Entry, Entry.item_id == Item.id)),
        rows(session, select(Owner.name, Item.id).outerjoin(Owner.neighbours)),
    ]


def related(session: Session, _key: Key) -> list[Any]:
    """Return what relationships of a class with itself are asked for."""
    below, above = aliased(Item), aliased(Item)
    return [
        rows(session, select(Item.id).where(Item.below.any())),
        rows(session, select(Item.id).where(~Item.below.any())),
        rows(session, select(Item.id).where(Item.above.has())),
        rows(session, select(Item.id).where(~Item.above.has(Item.title == "i0"))),
        rows(session, select(Item.id).where(~Item.below.of_type(below).any(below.id > 1))),
        rows(session, select(Item.id).where(Item.above.of_type(above).has())),
        rows(session, select(Item.id).where(~Item.titles_below.contains("i1"))),
    ]


def tested(session: Session, _key: Key) -> list[Any]:
    """Return what EXISTS and IN find."""
    other = aliased(Item)
    return [
        rows(session, select(Item.id).where(exists().where(other.above_id == Item.id))),
        rows(session, select(Item.id).where(Item.id.in_(select(other.above_id)))),
        rows(session, select(Item.id).where(Item.id.in_(select(Entry.item_id)))),
        rows(
            session,
            select(Item.id).where(
                tuple_(Item.region, Item.owner_id).in_(select(Owner.area, Owner.id))
            ),
        ),
        rows(session, select(Item.id).where(or_(Item.id == 0, exists(select(Entry.number))))),
    ]


def derived(session: Session, _key: Key) -> list[Any]:
    """Return what comes out of subqueries of all kinds."""
    inner = select(Item.id, Item.above_id).subquery()
    cte = select(Item.id, Item.title).cte()
    whole = aliased(Item, select(Item).order_by(Item.id).limit(3).subquery())
    return [
        rows(session, select(inner.c.id)),
        rows(session, select(Item.id).join(inner, inner.c.above_id == Item.id)),
        rows(session, select(Item.id).outerjoin(cte, cte.c.id == Item.above_id)),
        rows(session, select(whole.id)),
        rows(session, union_all(select(Item.id), select(Entry.item_id))),
        ids(session, select(Item).from_statement(select(Item).where(Item.title.like("i%")))),
        rows(session, select(func.count()).select_from(Item).where(Item.above_id == 0)),
        session.scalar(select(func.sum(Entry.amount))),
    ]


def of_old(session: Session, key: Key) -> list[Any]:
    """Return what the older interface finds and writes."""
    query = session.query(Item)
    return [
        query.count(),
        sorted(one.id for one in query.filter_by(**named(key))),
        query.filter(Item.above_id == 0).with_entities(func.count()).scalar(),
        sorted(one.id for one in query.union(session.query(Item).filter(Item.id > 3))),
        sorted(one.id for one in query.from_statement(select(Item))),
        query.filter(Item.id == first(another(key))).one_or_none(),
        session.query(query.exists()).scalar(),
        session.query(Item).filter(Item.above_id.is_not(None)).update({"title": "old"}),
        rows(session, select(Item.id, Item.title)),
    ]


def got(session: Session, key: Key) -> list[Any]:
    """Return what is found by primary keys."""
    other = first(another(key))
    found = session.get_one(Item, first(key), populate_existing=True, with_for_update=True)
    return [
        found.title,
        session.get(Item, other),
        session.get(Item, other, populate_existing=True),
        session.get(Item, other, options=[joinedload(Item.below)]),
        session.get(Entry, {"region": "us", "owner_id": 1, "number": 1}),
        session.get(Owner, ("us", 1)),
        ids(session, select(Item).where(with_parent(found, Item.below))),
        sorted(found.titles_below),
    ]


def renewed(session: Session, key: Key) -> list[Any]:
    """Return what is read again of an object."""
    one = of(session, key)
    session.expire(one)
    seen = [one.title, sorted(child.id for child in one.below)]
    session.refresh(one, ["title"])
    session.refresh(one, ["below", "above"])
    session.refresh(one)
    session.expire(one, ["owner_id"])
    return [*seen, one.owner_id, one.region, sorted(child.id for child in one.below)]


def unit(session: Session, key: Key) -> list[Any]:
    """Return what a unit of work leaves."""
    one = of(session, key)
    one.title = "changed"
    one.below.append(Item(id=900, title="new", **named(key)))
    session.flush()
    with session.begin_nested():
        session.add(Item(id=901, title="n", above=one, **named(key)))
    session.merge(Item(id=901, title="merged", **named(key)))
    session.merge(Item(id=902, title="merged", **named(key)))
    session.flush()
    session.delete(session.get_one(Item, first(key) + 2))
    session.flush()
    return rows(session, select(Item.id, Item.title, Item.above_id))


def written(session: Session, key: Key) -> list[Any]:
    """Return what statements write."""
    other = aliased(Item)
    session.execute(insert(Item), [{"id": n, "title": "x", **named(key)} for n in (910, 911)])
    session.execute(insert(Item).values(id=912, title="y", **named(key)))
    copied = select(Item.id + 1000, Item.region, Item.owner_id, Item.title)
    session.execute(insert(Item).from_select(["id", "region", "owner_id", "title"], copied))
    session.bulk_insert_mappings(Item, [{"id": 913, "title": "b", **named(key)}])
    session.bulk_save_objects([Item(id=914, title="b", **named(key))])
    return [
        session.execute(update(Item).values(title=Item.title + "!")).rowcount,
        session.execute(
            update(Item).where(Item.id.in_(select(other.above_id))).values(title="above")
        ).rowcount,
        session.execute(
            update(Item).where(exists().where(other.above_id == Item.id)).values(title="a")
        ).rowcount,
        session.execute(update(Entry).values(amount=Entry.amount + 1)).rowcount,
        rows(session, update(Item).where(Item.id > 910).values(title="r").returning(Item.id)),
        session.execute(delete(Item).where(Item.id.in_((911, 912, 1912)))).rowcount,
        rows(session, select(Item.id, Item.title)),
    ]


ANSWERED: Mapping[str, Case] = {
    "entities": lambda s, _: [ids(s, select(one)) for one in (Owner, Item, Entry)],
    "lazy loads": lambda s, _: families(s),
    "joined loads": lambda s, _: families(s, joinedload(Item.below), joinedload(Item.above)),
    "select-in loads": lambda s, _: families(s, selectinload(Item.below), selectinload(Item.above)),
    "subquery loads": lambda s, _: families(s, subqueryload(Item.below), subqueryload(Item.above)),
    "immediate loads": lambda s, _: families(
        s, immediateload(Item.below), immediateload(Item.above)
    ),
    "loads by half of the key": lambda s, _: [
        [sorted(item.id for item in one.neighbours) for one in s.scalars(query).unique()]
        for query in (
            select(Owner),
            select(Owner).options(selectinload(Owner.neighbours)),
            select(Owner).options(joinedload(Owner.neighbours)),
            select(Owner).options(subqueryload(Owner.neighbours)),
        )
    ],
    "loads of what is referred to": lambda s, _: [
        sorted((one.number, one.item and one.item.id, one.owner.name) for one in s.scalars(query))
        for query in (
            select(Entry),
            select(Entry).options(joinedload(Entry.item)).execution_options(populate_existing=True),
            select(Entry).options(selectinload(Entry.item)),
        )
    ],
    "outer joins": optional,
    "tests": tested,
    "tests of relationships": related,
    "subqueries": derived,
    "the older interface": of_old,
    "get": got,
    "refresh": renewed,
    "column properties": lambda s, _: sorted(
        one.of_all for one in s.scalars(select(Item).options(undefer(Item.of_all)))
    ),
    "a unit of work": unit,
    "writes": written,
}
"""Name: what is answered as if the key were alone."""


def told(key: Key, *, but: int | None = None) -> Any:
    """Return criteria of Core for a key, perhaps without one of its columns."""
    columns = (items.c.region, items.c.owner_id)
    pairs = list(zip(columns, key, strict=True))
    kept = [one for at, one in enumerate(pairs) if at != but]
    return and_(*(c.is_(None) if v is None else c == v for c, v in kept))


def made_up(session: Session, key: Key) -> None:
    """Change a row by an object that only says that it is the key's."""
    one = Item(id=first(another(key)), title="i", **named(key))
    one._sa_instance_state.identity_token = "shop/s0"
    make_transient_to_detached(one)
    session.add(one)
    one.title = "stolen"
    session.flush()


def made_up_and_deleted(session: Session, key: Key) -> None:
    """Delete a row by such an object."""
    one = Item(id=first(another(key)), title="i", below=[], above_id=None, **named(key))
    one._sa_instance_state.identity_token = "shop/s0"
    make_transient_to_detached(one)
    session.delete(session.merge(one, load=False))
    session.flush()


def given(session: Session, key: Key) -> Item:
    """Return an object of another key that the session has been given."""
    one = Item(id=first(another(key)), title="i", **named(another(key)))
    one._sa_instance_state.identity_token = "shop/s0"
    make_transient_to_detached(one)
    session.add(one)
    return one


def moved(session: Session, key: Key, **values: Any) -> None:
    """Give a row away, or half of its key."""
    one = of(session, key)
    for name, value in values.items():
        setattr(one, name, value)
    session.flush()


REFUSED: Mapping[str, Case] = {
    "half of the key": lambda s, k: s.execute(select(items.c.id).where(told(k, but=1))).all(),
    "the other half": lambda s, k: s.execute(select(items.c.id).where(told(k, but=0))).all(),
    "the key or half of it": lambda s, k: s.execute(
        select(items.c.id).where(or_(told(k), told(k, but=1)))
    ).all(),
    "the key or another": lambda s, k: s.execute(
        select(items.c.id).where(or_(told(k), told(another(k))))
    ).all(),
    "another": lambda s, k: s.execute(select(items.c.id).where(told(another(k)))).all(),
    "a NULL that is not there": lambda s, k: s.execute(
        select(items.c.id)
        .select_from(items.outerjoin(entries, entries.c.item_id == items.c.id))
        .where(told(k), entries.c.region.is_(None), entries.c.owner_id.is_(None))
    ).all(),
    "told of a missing side": lambda s, k: (
        s.execute(
            select(entries.c.number)
            .select_from(entries.outerjoin(items, items.c.id == entries.c.item_id))
            .where(told(k))
        ).all()
        and s.execute(select(entries.c.number).select_from(entries.outerjoin(items, told(k))))
    ),
    "not the key": lambda s, k: s.execute(select(items.c.id).where(~told(k))).all(),
    "core update": lambda s, k: s.execute(update(items).where(told(k, but=1)).values(title="x")),
    "core delete": lambda s, k: s.execute(delete(items).where(told(k, but=0))),
    "update of the key": lambda s, k: s.execute(update(Item).values(**named(another(k)))),
    "insert": lambda s, k: s.execute(insert(Item).values(id=99, title="", **named(another(k)))),
    "insert of NULLs": lambda s, k: s.execute(
        insert(Item).values(id=99, title="", **{n: null() for n in named(("us", 5))})
        if None not in k or k[0] == "eu"
        else insert(Item).values(id=99, title="", region="eu")
    ),
    "insert of half": lambda s, k: s.execute(
        insert(Item).values(
            {"id": 99, "title": ""} if any(k) else {"id": 99, "title": "", "owner_id": 2}
        )
    ),
    "insert of rows": lambda s, k: s.execute(
        insert(Item), [{"id": 90 + n, "title": "", **named(KEYS[n])} for n in range(len(KEYS))]
    ),
    "insert of values": lambda s, k: s.execute(
        insert(Item).values(
            [{"id": 90 + n, "title": "", **named(one)} for n, one in enumerate((k, another(k)))]
        )
    ),
    "values that are replaced": lambda s, k: s.execute(
        insert(Item).values(id=99, title="", **named(k)), named(another(k))
    ),
    "insert from select": lambda s, k: s.execute(
        insert(Item).from_select(
            ["id", "title", "region", "owner_id"],
            select(Item.id + 500, Item.title, *(literal(one) for one in another(k))),
        )
    ),
    "insert from select of less": lambda s, k: s.execute(
        insert(Item).from_select(["id", "title"], select(Item.id + 500, Item.title))
        if any(k)
        else insert(Item).from_select(
            ["id", "title", "region"], select(Item.id + 500, Item.title, literal("eu"))
        )
    ),
    "upsert": lambda s, k: s.execute(
        upsert(Item)
        .values(id=first(another(k)), title="stolen", **named(k))
        .on_conflict_do_update(index_elements=["id"], set_={"title": "stolen"})
    ),
    "upsert that does nothing": lambda s, k: s.execute(
        upsert(Item).values(id=99, title="", **named(another(k))).on_conflict_do_nothing()
    ),
    "bulk mappings": lambda s, k: s.bulk_update_mappings(
        Item, [{"id": first(another(k)), "title": "stolen", **named(k)}]
    ),
    "bulk update": lambda s, k: s.execute(
        update(Item), [{"id": first(another(k)), "title": "stolen", **named(k)}]
    ),
    "bulk objects": lambda s, k: s.bulk_save_objects([Item(id=99, title="", **named(another(k)))]),
    "add": lambda s, k: (s.add(Item(id=99, title="", **named(another(k)))), s.flush()),
    "merge": lambda s, k: (
        s.merge(Item(id=99, title="", **named(another(k)))),
        s.flush(),
    ),
    "made up": made_up,
    "made up and deleted": made_up_and_deleted,
    "a given object's change": lambda s, k: (setattr(given(s, k), "title", "x"), s.flush()),
    "a given object's delete": lambda s, k: (s.delete(given(s, k)), s.flush()),
    "a given object's refresh": lambda s, k: s.refresh(given(s, k)),
    "a given object's relationship": lambda s, k: given(s, k).below,
    "a given object's parent": lambda s, k: (
        s.expire(one := given(s, k), ["above_id", "above"]),
        one.above,
    ),
    "expired": lambda s, k: (s.expire(one := given(s, k)), one.title),
    "move": lambda s, k: moved(s, k, **named(another(k))),
    "move by half": lambda s, k: moved(s, k, owner_id=2),
    "move to NULL": lambda s, k: moved(
        s, k, **(named((None, None)) if any(k) else {"owner_id": 1})
    ),
    "move unseen": lambda s, k: (
        s.expire(one := of(s, k), ["owner_id"]),
        setattr(one, "owner_id", 2),
        s.flush(),
    ),
    "partition": lambda s, k: s.partition(another(k), keyspace="shop").__enter__(),  # type: ignore[attr-defined]
    "text": lambda s, _: s.execute(text("SELECT id FROM items")),
    "parameters": lambda s, k: s.execute(
        select(items.c.id).where(
            items.c.region == bindparam("r"), items.c.owner_id == bindparam("o")
        ),
        {"r": another(k)[0], "o": another(k)[1] or 2} if another(k)[0] else {"r": "us", "o": 1},
    ).all(),
}
"""Name: what is refused, and leaves all rows as they were."""
