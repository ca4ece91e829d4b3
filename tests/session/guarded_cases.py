"""What may be tried inside a guarded partition: a case for each way to other tenants' rows.

A case is given a session and returns plain values: those that a database with the rows of the
one tenant gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    bindparam,
    delete,
    exists,
    func,
    insert,
    inspect,
    lambda_stmt,
    literal,
    literal_column,
    select,
    text,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    join,
    joinedload,
    make_transient_to_detached,
    outerjoin,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_polymorphic,
)

from tests.session.guarded import (
    MINE,
    OTHER,
    Asset,
    House,
    Ledger,
    Line,
    Note,
    Order,
    Tag,
    Tenant,
    Vehicle,
    count_of,
    tags_of,
)

Case = Callable[[Session], Any]
orders, notes = Order.__table__, Note.__table__


def rows(session: Session, statement: Any, **kw: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, sorted."""
    return sorted(map(tuple, session.execute(statement, **kw)), key=repr)


def ids(session: Session, statement: Any) -> list[Any]:
    """Return the identities of the objects of a statement."""
    return sorted(inspect(one).identity for one in session.scalars(statement).unique())


def lines_of_notes(session: Session, *options: Any) -> list[Any]:
    """Return the notes with the lines that are loaded for them."""
    found = session.scalars(select(Note).options(*options)).unique().all()
    return [(note.id, sorted(line.id for line in note.lines)) for note in found]


def walked(session: Session) -> list[Any]:
    """Return what a recursive CTE finds from the first orders on."""
    first = select(Order.tenant_id, Order.number).where(Order.follows.is_(None))
    walk = first.cte("walk", recursive=True)
    after = aliased(Order)
    step = select(after.tenant_id, after.number).join(walk, walk.c.number == after.follows)
    return rows(session, select(walk.union_all(step)))


def streamed(session: Session) -> list[Any]:
    """Return what comes in parts."""
    found = session.scalars(select(Order).order_by(Order.number).execution_options(yield_per=1))
    return [(one.tenant_id, one.number, one.tenant.name) for one in found]


def expired(session: Session) -> list[Any]:
    """Return what is read again."""
    note = session.get_one(Note, MINE * 10)
    session.expire(note)
    first = note.title
    session.refresh(note, ["title"])
    session.refresh(note)
    session.commit()
    return [first, note.title, note.tenant.name]


def polymorphic(session: Session) -> list[Any]:
    """Return objects of three classes in one query, and attributes that come later."""
    query = select(Asset).options(selectin_polymorphic(Asset, [Vehicle]))
    found = session.scalars(query).all()
    late = [one for one in session.scalars(select(Asset)) if isinstance(one, Vehicle)]
    return sorted((type(one).__name__, one.tenant_id) for one in found) + [
        one.wheels for one in late
    ]


def of_subquery(session: Session) -> list[Any]:
    """Return an alias of a subquery, joined outwards, without and with the key."""
    bare = aliased(Order, select(Order.number).subquery())
    whole = aliased(Order, select(Order).where(Order.number == 1).subquery())
    first = select(Tenant.id, bare.number).outerjoin(bare, bare.number == Tenant.id)
    second = select(Tenant.id, whole.number).outerjoin(whole, whole.tenant_id == Tenant.id)
    return [*rows(session, first), *rows(session, second)]


def written(session: Session) -> list[Any]:
    """Return what is left after a unit of work."""
    tenant = session.get_one(Tenant, MINE)
    tenant.orders.append(Order(number=7, total=3))
    tenant.name = "new"
    tenant.tags.remove(session.get_one(Tag, 1))
    session.add(
        Note(id=77, tenant_id=MINE, title="x", lines=[Line(id=78, tenant_id=MINE, text="")])
    )
    note = session.get_one(Note, MINE * 10)
    note.title = "changed"
    session.flush()
    with session.begin_nested():
        for line in note.lines:
            session.delete(line)
    session.delete(session.get_one(Vehicle, (MINE, 1)))
    session.flush()
    return ids(session, select(Order))


def merged(session: Session) -> list[Any]:
    """Return what a merge makes of objects that are there, and of one that is not."""
    session.merge(Note(id=MINE * 10, tenant_id=MINE, title="merged"))
    session.merge(Order(tenant_id=MINE, number=9, total=1))
    session.flush()
    return [*ids(session, select(Order)), session.get_one(Note, MINE * 10).title]


def in_bulk(session: Session) -> list[Any]:
    """Return what the older bulk methods leave."""
    session.bulk_insert_mappings(Order, [{"tenant_id": MINE, "number": 5, "total": 0}])
    session.bulk_update_mappings(Order, [{"tenant_id": MINE, "number": 5, "total": 8}])
    session.bulk_save_objects([Note(id=88, tenant_id=MINE, title="bulk")])
    session.execute(update(Order), [{"tenant_id": MINE, "number": 1, "total": 6}])
    return rows(session, select(Order.number, Order.total))


def inserted(session: Session) -> list[Any]:
    """Return what INSERTs give back."""
    made = insert(Order).returning(Order.tenant_id, Order.number)
    found = rows(session, made, params=[{"tenant_id": MINE, "number": n} for n in (20, 21)])
    more = select(Order.tenant_id, Order.number + 50, Order.total)
    session.execute(insert(Order).from_select(["tenant_id", "number", "total"], more))
    fixed = select(literal(MINE), Note.id + 900, Note.title + "y")
    session.execute(insert(Note).from_select(["tenant_id", "id", "title"], fixed))
    again = upsert(Order).values(tenant_id=MINE, number=1, total=9)
    again = again.on_conflict_do_update(index_elements=["tenant_id", "number"], set_={"total": 9})
    session.execute(again)
    return [*found, *rows(session, select(Order.number, Order.total))]


def updated(session: Session) -> list[Any]:
    """Return the counts of writes without the key."""
    other = aliased(Note)
    found = [
        session.execute(update(Order).values(total=Order.total + 1)).rowcount,
        session.execute(update(Vehicle).values(wheels=5)).rowcount,
        session.execute(update(Order).where(exists().where(Note.title == "n3")).values(total=0)),
        session.execute(
            update(Order).where(Order.total.in_(select(other.tenant_id))).values(total=4)
        ),
        session.execute(update(Line).values(text="y"), execution_options=FETCH).rowcount,
        session.query(Order).filter(Order.number == 2).update({"total": 8}),
        session.execute(delete(Line).where(Line.text == "x")).rowcount,
        session.query(Line).delete(),
    ]
    return [one if isinstance(one, int) else one.rowcount for one in found]


def valued(session: Session) -> list[Any]:
    """Return what writes leave whose values are read from other rows."""
    other = aliased(Note)
    total = select(func.sum(Order.total)).scalar_subquery()
    below = exists().where(Line.note_id == other.id)
    counted = select(func.count(other.id)).where(below).scalar_subquery()
    session.execute(insert(Order).values(tenant_id=MINE, number=30, total=total))
    session.execute(insert(Order).values(tenant_id=MINE, number=31, total=total + counted))
    session.execute(insert(orders).values(tenant_id=MINE, number=32, total=counted))
    last = select(func.max(Order.number)).where(Order.tenant_id == Note.tenant_id)
    session.execute(update(Note).values(title=last.scalar_subquery()))
    session.execute(update(Line).where(Line.note_id == Note.id).values(text=Note.title))
    named = update(Tenant).where(other.tenant_id == Tenant.id).values(name=other.title)
    session.execute(named, execution_options=FETCH)
    return [
        *rows(session, select(Order.number, Order.total)),
        *rows(session, select(Line.id, Line.text)),
        *rows(session, select(Tenant.name)),
    ]


FETCH = {"synchronize_session": "fetch"}

ANSWERED: Mapping[str, Case] = {
    "entities": lambda s: ids(s, select(Order)),
    "columns": lambda s: rows(s, select(Order.tenant_id, Order.number)),
    "bundles": lambda s: rows(s, select(Bundle("b", Order.tenant_id, Order.number))),
    "aliases": lambda s: rows(s, select(aliased(Order).tenant_id)),
    "two of one class": lambda s: rows(
        s, select(Order.tenant_id, (o := aliased(Order)).tenant_id).join(o, Order.number < o.number)
    ),
    "a product of two": lambda s: rows(s, select(Order.number, Note.id).join(Note, true())),
    "counts": lambda s: (s.scalar(count_of(Order)), s.scalar(select(func.count(Order.number)))),
    "a query of old": lambda s: (
        s.query(Order).count(),
        s.query(Order).with_entities(func.sum(Order.total)).scalar(),
        s.query(s.query(Note).exists()).scalar(),
    ),
    "groups": lambda s: rows(s, select(Order.tenant_id, func.count()).group_by(Order.tenant_id)),
    "windows": lambda s: rows(
        s, select(Order.number, func.row_number().over(order_by=Order.number.desc()))
    ),
    "exists": lambda s: rows(s, select(Tenant.id).where(exists().where(Note.title == "n3"))),
    "not exists": lambda s: rows(s, select(Tenant.id).where(~exists().where(Note.title == "n3"))),
    "select exists": lambda s: [
        s.scalar(select(exists().where(Note.title == "n3"))),
        s.scalar(select(exists(select(Note.id)))),
        s.scalar(select(select(Note.id).where(Note.title == "n3").exists())),
    ],
    "in": lambda s: rows(s, select(Order.number).where(Order.total.in_(select(Note.tenant_id)))),
    "not in": lambda s: rows(
        s, select(Order.number).where((Order.total + 2).not_in(select(Note.tenant_id)))
    ),
    "scalars": lambda s: rows(
        s, select(Tenant.id, select(func.max(Order.total)).scalar_subquery())
    ),
    "a lone scalar": lambda s: rows(s, select(select(func.count(Order.number)).scalar_subquery())),
    "unions": lambda s: rows(s, union_all(select(Order.tenant_id), select(Note.tenant_id))),
    "unions in a query": lambda s: rows(
        s, select(select(Order.tenant_id).union(select(Note.tenant_id)).subquery())
    ),
    "ctes": lambda s: rows(s, select(select(Order.tenant_id).cte().c.tenant_id)),
    "recursion": walked,
    "derived tables": lambda s: rows(s, select(func.count()).select_from(select(Order).subquery())),
    "joins": lambda s: rows(s, select(Tenant.id, Order.number).join(Tenant.orders)),
    "outer joins": lambda s: rows(s, select(Note.id, Line.id).outerjoin(Note.lines)),
    "outer joins with criteria": lambda s: rows(
        s, select(Note.id, Line.id).outerjoin(Note.lines.and_(Line.text == "none"))
    ),
    "outer joins of subqueries": of_subquery,
    "any and has": lambda s: [
        *rows(s, select(Tenant.id).where(Tenant.orders.any(Order.total == OTHER))),
        *rows(s, select(Line.id).where(Line.note.has(Note.title == "n1"))),
        *rows(s, select(Order.number).where(Order.next.any())),
        *rows(s, select(Order.number).where(~Order.previous.has())),
    ],
    "get": lambda s: [
        s.get_one(Tenant, MINE).name,
        *(s.get(Tenant, key) for key in (OTHER, 99)),
        s.get_one(Note, MINE * 10).title,
        s.get(Note, OTHER * 10),
        s.get(Order, (OTHER, 1)),
        s.get(Line, OTHER),
    ],
    "lazy loads": lambda s: [lines_of_notes(s), *(o.tenant.name for o in s.scalars(select(Order)))],
    "joined loads": lambda s: lines_of_notes(s, joinedload(Note.lines)),
    "select-in loads": lambda s: lines_of_notes(s, selectinload(Note.lines)),
    "subquery loads": lambda s: lines_of_notes(s, subqueryload(Note.lines)),
    "contained loads": lambda s: [
        (note.id, sorted(line.id for line in note.lines))
        for note in s.scalars(
            select(Note).join(Note.lines).options(contains_eager(Note.lines))
        ).unique()
    ],
    "loads of loads": lambda s: [
        [(len(order.tenant.notes), order.next) for order in tenant.orders if order.number == 2]
        for tenant in s.scalars(
            select(Tenant).options(
                selectinload(Tenant.orders).joinedload(Order.tenant).selectinload(Tenant.notes)
            )
        )
    ],
    "raising relationships": lambda s: [
        len(t.raising) for t in s.scalars(select(Tenant).options(selectinload(Tenant.raising)))
    ],
    "dynamic relationships": lambda s: (
        s.get_one(Tenant, MINE).appended.count(),
        len(s.scalars(s.get_one(Tenant, MINE).written.select()).all()),
    ),
    "a reference table's side": lambda s: [
        [(tag.id, [one.id for one in tag.tenants]) for tag in s.scalars(query).unique()]
        for query in (
            select(Tag),
            select(Tag).options(selectinload(Tag.tenants)),
            select(Tag).options(joinedload(Tag.tenants)),
        )
    ],
    "association proxies": lambda s: [
        sorted(s.get_one(Tenant, MINE).names_of_tags),
        *rows(s, select(Tenant.id).where(Tenant.names_of_tags.contains("red"))),
    ],
    "hybrids": lambda s: rows(s, select(Tenant.id, Tenant.spent)),
    "column properties": lambda s: [
        *rows(s, select(Tenant.id, Tenant.all_orders, Tenant.own_orders)),
        s.get_one(Tenant, MINE).all_orders,
        [one.all_orders for one in s.scalars(select(Tenant).options(undefer(Tenant.all_orders)))],
    ],
    "inheritance": lambda s: [ids(s, select(one)) for one in (Asset, House, Vehicle)],
    "polymorphic queries": lambda s: [
        *ids(s, select(with_polymorphic(Asset, "*"))),
        *ids(s, select(with_polymorphic(Asset, [Vehicle], flat=True))),
        *polymorphic(s),
    ],
    "lambdas": lambda s: [
        *rows(s, lambda_stmt(lambda: select(Order.tenant_id, Order.number))),
        *rows(s, lambda_stmt(lambda: select(Note.id)) + (lambda q: q.where(Note.id > 1))),
    ],
    "parameters": lambda s: [
        *rows(s, select(Order.number).where(Order.number == bindparam("n")), params={"n": 1}),
        *rows(s, select(Order.number), params={"unused": 1}),
        s.execute(
            update(Order).where(Order.number == bindparam("n")), {"n": 1, "total": 8}
        ).rowcount,
        *rows(s, select(Order.number, Order.total)),
    ],
    "from a statement": lambda s: ids(
        s, select(Order).from_statement(select(Order).where(Order.number == 1))
    ),
    "core with the key": lambda s: rows(s, select(orders).where(orders.c.tenant_id == MINE)),
    "harmless text": lambda s: [
        *s.scalars(select(Order.number).order_by(text("number desc"))),
        *rows(s, select(Order.number).where(text("(number = 1 OR total = 3)"))),
        *rows(s, select(Order.number).where(text("lower('A') = 'a'"))),
        *rows(s, select(Order.number.label("n"), literal_column("42")).order_by(text("n"))),
        *rows(s, select(Note.id).where(Note.title.startswith("n"), Note.title.contains("n"))),
    ],
    "streams": streamed,
    "expired": expired,
    "reference tables": lambda s: ids(s, select(Tag)),
    "a unit of work": written,
    "merge": merged,
    "bulk": in_bulk,
    "insert": inserted,
    "update and delete": updated,
    "values of other rows": valued,
    "returning": lambda s: rows(
        s, update(Order).values(total=9).returning(Order.tenant_id, Order.number)
    ),
}
"""Name: what is answered as if the tenant were alone."""


def detached(one: Any) -> Any:
    """Return an object as if it had been loaded."""
    make_transient_to_detached(one)
    return one


def made_up(session: Session) -> None:
    """Change a row by an object that only says that it is the tenant's."""
    note = Note(id=OTHER * 10, tenant_id=MINE, title="n")
    make_transient_to_detached(note)
    session.add(note)
    note.title = "stolen"
    session.flush()


def made_up_and_deleted(session: Session) -> None:
    """Delete a row by such an object."""
    note = Note(id=OTHER * 10, tenant_id=MINE, title="n", lines=[])
    make_transient_to_detached(note)
    session.delete(session.merge(note, load=False))
    session.flush()


def made_up_in_bulk(session: Session) -> None:
    """Write a row past the unit of work, by its primary key alone."""
    note = Note(id=OTHER * 10, tenant_id=MINE, title="n")
    make_transient_to_detached(note)
    note.title = "stolen"
    session.bulk_save_objects([note])


def moved(session: Session) -> None:
    """Give a row away."""
    session.get_one(Note, MINE * 10).tenant_id = OTHER
    session.flush()


def adopted(session: Session) -> None:
    """Take another's object into a collection."""
    order = Order(tenant_id=OTHER, number=1)
    make_transient_to_detached(order)
    tenant = session.get_one(Tenant, MINE)
    tenant.orders.append(order)
    session.flush()


def of_another(session: Session) -> Tenant:
    """Return an object of another tenant that the session has been given."""
    tenant = Tenant(id=OTHER, name="t3")
    make_transient_to_detached(tenant)
    session.add(tenant)
    return tenant


def nested(session: Any) -> None:
    """Enter another tenant's partition inside."""
    with session.partition(OTHER, keyspace="shop"):
        pass


def prefixed(session: Session) -> None:
    """Let the database replace a row with the same primary key."""
    values = {"id": OTHER * 10, "tenant_id": MINE, "title": "x"}
    session.execute(insert(Note).prefix_with("OR REPLACE").values(values))


def run(statement: Any, params: Any = None) -> Case:
    """Return the case of one statement."""
    return lambda session: session.execute(statement, params).all()


def do(statement: Any, params: Any = None) -> Case:
    """Return the case of one statement that returns no rows."""
    return lambda session: session.execute(statement, params)


REFUSED: Mapping[str, Case] = {
    "text": run(text("SELECT * FROM orders")),
    "text that writes": do(text("DELETE FROM orders")),
    "core": run(select(orders)),
    "core with another key": lambda s: s.execute(
        select(orders).where(orders.c.tenant_id.in_([MINE, OTHER]))
    ).all(),
    "core below": run(select(Order.number).where(exists(select(notes.c.id)))),
    "core update": do(update(orders).values(total=0)),
    "core delete": do(delete(notes).where(notes.c.id == OTHER * 10)),
    "core insert": do(insert(orders), [{"tenant_id": OTHER, "number": 9}]),
    "core values": do(insert(orders).values([{"tenant_id": OTHER, "number": 9}])),
    "a secondary table": run(select(tags_of)),
    "from a core statement": lambda s: s.scalars(
        select(Order).from_statement(select(orders))
    ).all(),
    "from text": lambda s: s.scalars(
        select(Order).from_statement(text("SELECT * FROM orders"))
    ).all(),
    "from a write": lambda s: s.scalars(
        select(Order).from_statement(update(Order).values(total=1).returning(Order))
    ).all(),
    "textual columns": run(text("SELECT number FROM orders").columns(Order.number)),
    "text in WHERE": run(select(Order.number).where(text("1 = 1 OR 1 = 1"))),
    "functions in text": run(select(Order.number).where(text("(number = leak(1))"))),
    "functions of rows in text": run(select(Order.number).order_by(text("orders.leak"))),
    "text in ORDER BY": run(select(Order.number).order_by(text("(SELECT count(*) FROM notes)"))),
    "literal columns": run(
        select(literal_column("(SELECT count(*) FROM orders)")).where(Order.number > 0)
    ),
    "operators": run(
        select(Order.number).where(Order.number.op("IN (SELECT id FROM notes) OR")(1))
    ),
    "functions": run(select(func.query_to_xml("SELECT * FROM orders", Order.number))),
    "joins in full": run(select(Note.id, Line.id).join(Note.lines, full=True)),
    "joins in full, with a criterion": run(
        select(Order.number, Note.id)
        .select_from(Order)
        .outerjoin(Note, Note.title == "none")
        .outerjoin(Order.tenant)
        .join(Tag, Tag.name == Tenant.name, full=True)
        .where(Tenant.id.in_([MINE, OTHER]))
    ),
    "joins in full, made before": run(
        select(Order.number, Note.id)
        .select_from(
            join(
                outerjoin(outerjoin(Order, Note, Note.title == "none"), Tenant),
                Tag,
                Tag.name == Tenant.name,
                full=True,
            )
        )
        .where(Tenant.id.in_([MINE, OTHER]))
    ),
    "a write in a CTE": lambda s: s.execute(
        select(insert(Note).values(id=99, tenant_id=OTHER, title="x").returning(Note.id).cte())
    ),
    "insert": do(insert(Order).values(tenant_id=OTHER, number=9)),
    "values of core": do(
        insert(Order).values(
            tenant_id=MINE, number=9, total=select(func.sum(orders.c.total)).scalar_subquery()
        )
    ),
    "values of core below": do(
        insert(Order).values(
            tenant_id=MINE,
            number=9,
            total=select(func.count(Note.id))
            .where(exists(select(orders.c.number)))
            .scalar_subquery(),
        )
    ),
    "update from core": do(update(Line).where(Line.note_id == notes.c.id).values(text="x")),
    "insert of rows": do(insert(Order), [{"tenant_id": one, "number": 9} for one in (MINE, OTHER)]),
    "insert from select": do(
        insert(Note).from_select(
            ["tenant_id", "id", "title"], select(literal(OTHER), Note.id + 70, Note.title)
        )
    ),
    "insert from core": do(
        insert(Note).from_select(
            ["tenant_id", "id", "title"], select(notes.c.tenant_id, notes.c.id + 70, notes.c.title)
        )
    ),
    "insert or replace": prefixed,
    "upsert": lambda s: s.execute(
        upsert(Order)
        .values(tenant_id=OTHER, number=1, total=0)
        .on_conflict_do_update(index_elements=["tenant_id", "number"], set_={"total": 0})
    ),
    "update of the key": do(update(Note).values(tenant_id=OTHER)),
    "bulk update": do(update(Order), [{"tenant_id": OTHER, "number": 1, "total": 0}]),
    "bulk insert mappings": lambda s: s.bulk_insert_mappings(
        Order, [{"tenant_id": OTHER, "number": 9}]
    ),
    "bulk update mappings": lambda s: s.bulk_update_mappings(
        Order, [{"tenant_id": OTHER, "number": 1, "total": 0}]
    ),
    "bulk save": lambda s: s.bulk_save_objects([Order(tenant_id=OTHER, number=9)]),
    "bulk save of what is made up": made_up_in_bulk,
    "add": lambda s: (s.add(Order(tenant_id=OTHER, number=9)), s.flush()),
    "add to one's own": lambda s: (
        s.add(Tenant(id=OTHER + 2, orders=[Order(number=1)], name="")),
        s.flush(),
    ),
    "another's subclass": lambda s: (
        s.add(Vehicle(tenant_id=OTHER, number=7, wheels=1)),
        s.flush(),
    ),
    "merge": lambda s: (s.merge(Order(tenant_id=OTHER, number=1, total=0)), s.flush()),
    "merge unloaded": lambda s: (
        setattr(s.merge(detached(Order(tenant_id=OTHER, number=1)), load=False), "total", 0),
        s.flush(),
    ),
    "delete": lambda s: (s.delete(of_another(s)), s.flush()),
    "change": lambda s: (setattr(of_another(s), "name", "x"), s.flush()),
    "refresh": lambda s: s.refresh(of_another(s)),
    "expire": lambda s: (s.expire(t := of_another(s)), t.name),
    "lazy load": lambda s: of_another(s).orders,
    "made up": made_up,
    "made up and deleted": made_up_and_deleted,
    "move": moved,
    "adopt": adopted,
    "connection": lambda s: s.connection(bind_arguments={"shard": "shop/s1"}),
    "connection of the transaction": lambda s: (
        s.scalars(select(Order)).all(),
        s.get_transaction().connection(Order, bind=s.bind),  # type: ignore[union-attr]
    ),
    "engine": lambda s: s.get_bind(shard="shop/s1"),  # type: ignore[call-arg]
    "engine of a class": lambda s: s.get_bind(Order),
    "another partition": nested,
    "a function without a table": lambda s: s.execute(
        select(func.query_to_xml("SELECT * FROM orders")), bind_arguments={"shard": "shop/s1"}
    ).all(),
    "a parameter's inner name": run(select(Order), {"router_guard_1": OTHER}),
    "a parameter's inner name in core": run(
        select(orders).where(orders.c.tenant_id == MINE), {"tenant_id_1": OTHER}
    ),
    "a parameter's inner name in a write": do(
        update(orders).where(orders.c.tenant_id == MINE).values(total=7), {"tenant_id_1": OTHER}
    ),
    "a parameter's inner name in an insert": do(
        insert(orders).values([{"tenant_id": MINE, "number": n} for n in (8, 9)]),
        {"tenant_id_m1": OTHER},
    ),
    "a shard by name": lambda s: s.execute(
        select(orders), bind_arguments={"shard": "shop/s1"}
    ).all(),
    "pairs": run(select(orders).where(tuple_(orders.c.tenant_id, orders.c.number) > (0, 0))),
}
"""Name: what is refused with R215."""

OUTSIDE: Mapping[str, Case] = {
    "another shard": lambda s: s.execute(select(Order), bind_arguments={"shard": "shop/s0"}),
    "another database": run(select(Ledger.id)),
    "a write to every copy": lambda s: (s.add(Tag(id=9, name="x")), s.flush()),
}
"""Name: what is refused with R208, as in any partition."""
