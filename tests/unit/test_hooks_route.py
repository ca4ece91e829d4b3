"""What routing leans on inside SQLAlchemy is where it was."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Sequence,
    Table,
    bindparam,
    column,
    delete,
    func,
    insert,
    lambda_stmt,
    literal_column,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    with_parent,
)
from sqlalchemy.schema import ForeignKey
from sqlalchemy.sql.elements import ColumnElement, UnaryExpression
from sqlalchemy.sql.operators import custom_op

from router.hooks.mappers import (
    all_mappers,
    is_orm,
    loaded_from,
    loading_parent,
    subject_of,
    tables_of,
    works_for_a_row,
)
from router.hooks.statements import (
    aliased_cte,
    appendages,
    attribute_names,
    cache_key,
    conflict_columns,
    conflict_values,
    given_values,
    is_lasting,
    is_opaque,
    on_conflict,
    plain_table,
    proxied,
    resolved,
    selected,
    with_value,
)
from router.hooks.trace import Trace, is_custom, trace

DIALECT: Dialect = postgresql.dialect()


class Base(DeclarativeBase):
    """Base of the models."""


class Parent(Base):
    """Has children."""

    __tablename__ = "parents"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[int] = mapped_column("number")
    number: Mapped[int] = mapped_column("other")
    children: Mapped[list[Child]] = relationship(back_populates="parent")


class Child(Base):
    """Has a parent."""

    __tablename__ = "children"

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))
    parent: Mapped[Parent] = relationship(back_populates="children")


class shouting(ColumnElement[Any]):
    """Rendered by the application."""

    inherit_cache = True


@compiles(shouting)
def _shouting(element: Any, compiler: Any, **kw: Any) -> str:
    return "LOUD"


parents, children = Parent.__table__, Child.__table__


def traced(statement: Any, columns: list[str] | None = None) -> Trace:
    """Return the trace of a statement."""
    return trace(statement, [DIALECT], columns)


# -- trace -------------------------------------------------------------------------------------


def test_scopes_of_an_orm_join() -> None:
    """The scope of an ORM SELECT has the joins that the ORM adds."""
    statement = select(Child).options(joinedload(Child.parent))
    scope = traced(statement).scope_of(statement)
    assert scope is not None
    assert [str(one) for one in scope.froms] == [
        "children LEFT OUTER JOIN parents AS parents_1 ON parents_1.id = children.parent_id"
    ]


def test_scopes_of_a_correlated_subquery() -> None:
    """What a subquery takes from outside does not stand in its own FROM."""
    inner = select(children.c.id).where(children.c.parent_id == parents.c.id)
    found = traced(select(parents).where(parents.c.id.in_(inner)))
    froms = [[getattr(one, "name", "") for one in scope.froms] for scope in found.scopes]
    assert froms == [["parents"], ["children"]]


def test_one_select_with_two_meanings() -> None:
    """A SELECT object that stands in two places with different FROMs has no scope."""
    inner = select(children.c.id).where(children.c.parent_id == parents.c.id)
    one = select(parents.c.id).where(parents.c.id.in_(inner))
    other = aliased(children)
    statement = one.union(select(other.c.id).where(other.c.id.in_(inner)))
    assert traced(statement).scope_of(inner) is None


def test_what_is_met() -> None:
    """Tables, texts, functions, parameters and sequences are noted."""
    statement = (
        select(func.pkg.Lower(parents.c.id), literal_column("a + b"), Sequence("s").next_value())
        .where(text("c = 1"), parents.c.id == bindparam("x"), parents.c.number.op("~", 9)("y"))
        .with_hint(parents, "ONLY")
        .with_statement_hint("stated")
    )
    found = traced(statement)
    assert found.tables == {parents}
    assert set(found.texts) == {"a + b", "c = 1", "ONLY", "stated"}
    assert found.functions == {"pkg.lower", "next_value", "nextval"}
    assert found.operators == ["~"]
    assert found.binds["x"] == 1


def test_operators_of_ones_own_are_met() -> None:
    """Of two operands or one, whatever they bind, which any function may stand behind."""
    number = parents.c.number
    before = UnaryExpression(number, operator=custom_op("@@@"))
    after = UnaryExpression(number, modifier=custom_op("!!!"))
    found = traced(select(number.op("###")(1), number.op("~~~", 9)(1), before, after))
    assert found.custom == {"###", "~~~", "@@@", "!!!"}
    assert traced(select(number + 1).where(number == 2)).custom == set()


def test_tables_without_metadata() -> None:
    """A lightweight table is noted, too."""
    found = traced(select(column("a")).select_from(table("loose")))
    assert [one.name for one in found.tables] == ["loose"]


def test_textual_selects() -> None:
    """A textual SELECT inside of another statement is noted."""
    inner = text("SELECT 1 AS a").columns(column("a")).subquery()
    assert traced(select(inner)).opaque == {"a textual SELECT"}


def test_writes() -> None:
    """INSERT, UPDATE and DELETE are noted, nested or not."""
    nested = delete(children).returning(children.c.id).cte()
    assert traced(select(nested)).writes == ["DELETE"]
    assert traced(insert(parents).values(id=1)).writes == ["INSERT"]
    assert sorted(traced(update(parents).values(id=1).add_cte(nested)).writes) == [
        "DELETE",
        "UPDATE",
    ]


def test_extra_froms_of_an_update() -> None:
    """The further tables of an UPDATE or DELETE are those that SQLAlchemy finds."""
    found = traced(update(Child).where(Child.parent_id == Parent.id).values(id=Parent.code))
    assert [plain_table(one) for one in found.extra_froms] == [parents]
    found = traced(delete(children).where(children.c.parent_id == parents.c.id))
    assert list(found.extra_froms) == [parents]


def test_column_keys() -> None:
    """Parameters that are columns are compiled into an UPDATE."""
    assert traced(update(parents), ["number"]).binds["number"] == 1


def test_custom_constructs() -> None:
    """A construct with ``@compiles`` is recognised and its SQL noted."""
    assert is_custom(shouting())
    assert not is_custom(parents.c.id)
    assert traced(select(parents.c.id).where(shouting() == 1)).texts == ["LOUD"]


@pytest.mark.parametrize("dialect", [postgresql.dialect(), mysql.dialect()])
def test_tracing_changes_nothing(dialect: Dialect) -> None:
    """The watched compiler still compiles, and the plain one is left alone."""
    statement = select(Parent).where(Parent.id == 1)
    before = str(statement.compile(dialect=dialect))
    trace(statement, [dialect])
    assert str(statement.compile(dialect=dialect)) == before


# -- statements --------------------------------------------------------------------------------


def test_cache_keys() -> None:
    """Statements of one shape have one key; the parameters are in the same order."""
    one, two = (select(Parent).where(Parent.id == n, Parent.code == 9) for n in (1, 2))
    assert cache_key(one)[0] == cache_key(two)[0]
    assert [bind.value for bind in cache_key(two)[1]] == [2, 9]


def test_cache_keys_of_other_shapes() -> None:
    """None, lists and other operators make another shape."""
    conditions = [
        parents.c.id == 1,
        parents.c.id == None,  # noqa: E711
        parents.c.id.in_([1]),
        parents.c.id > 1,
        parents.c.id == bindparam("x", type_=Integer),
    ]
    assert len({cache_key(select(parents).where(one))[0] for one in conditions}) == 5


def test_values_given_to_statements() -> None:
    """`params()` is seen, whether it is kept beside the parameters or in them."""
    statement = select(parents).where(parents.c.id == bindparam("x")).params(x=7)
    _, binds, given = cache_key(statement)
    assert {bind.key: bind.value for bind in binds} | dict(given) == {"x": 7}


def test_statements_without_a_key() -> None:
    """A statement that cannot be cached has no key, and all of its parameters."""
    statement = insert(parents).values([{"id": 1}, {"id": 2}])
    key, binds, _ = cache_key(statement)
    assert key is None
    assert isinstance(binds, list)


def test_lambda_statements() -> None:
    """A lambda statement stands for one with the values of this call."""

    def build(value: int) -> Any:
        return lambda_stmt(lambda: select(parents).where(parents.c.id == value))

    for value in (1, 2):
        assert [bind.value for bind in cache_key(resolved(build(value)))[1]] == [value]


def test_opaque_statements() -> None:
    """Text and DDL are opaque, also inside of an ORM statement."""
    assert is_opaque(text("SELECT 1"))
    assert is_opaque(select(Parent).from_statement(text("SELECT 1")))
    assert not is_opaque(select(Parent).from_statement(select(Parent)))


def test_with_value() -> None:
    """One parameter gets another value in a copy of the same shape."""
    statement = select(Parent).where(Parent.id.in_([1, 2]))
    key, binds, _ = cache_key(statement)
    other = with_value(statement, binds[0], [3])
    assert cache_key(other)[0] == key
    assert [bind.value for bind in cache_key(other)[1]] == [[3]]
    assert binds[0].value == [1, 2]


def test_columns_of_derived_tables() -> None:
    """A column of a derived table leads to the column that was selected."""
    alias = parents.alias()
    inner = select(alias.c.id, alias.c.number.label("n"), (alias.c.id + 1).label("sum"))
    derived = inner.subquery()
    assert proxied(derived.c.id) is alias.c.id
    assert proxied(derived.c.n).element is alias.c.number
    assert proxied(derived.c["sum"]).element.left is alias.c.id
    assert proxied(inner.union(inner).subquery().c.id) is None


def test_names_of_ctes() -> None:
    """Another name of a CTE leads to the CTE."""
    cte = select(parents).cte()
    assert aliased_cte(cte.alias()) is cte
    assert aliased_cte(cte) is None


def test_values_of_writes() -> None:
    """VALUES and SET are seen in all their forms."""
    assert list(given_values(insert(parents).values({"id": 1}))) != []
    many = insert(parents).values([{"id": 1}, {"id": 2}])
    assert [len(row) for row in given_values(many)] == [1, 1]
    ordered = update(parents).ordered_values((parents.c.id, 1), (parents.c.number, 2))
    (row,) = given_values(ordered)
    assert len(row) == 2


def test_insert_from_select() -> None:
    """The SELECT of an INSERT is seen."""
    source = select(children.c.id)
    assert selected(insert(parents).from_select(["id"], source)) is source
    assert selected(insert(parents)) is None


def test_on_conflict() -> None:
    """What an upsert sets, and on which columns, is seen."""
    written = postgresql.insert(parents).values(id=1)
    clause = on_conflict(written.on_conflict_do_update(index_elements=["id"], set_={"number": 2}))
    assert list(conflict_values(clause)) == ["number"]
    assert conflict_columns(clause) == {"id"}
    clause = on_conflict(mysql.insert(parents).values(id=1).on_duplicate_key_update(number=2))
    assert list(conflict_values(clause)) == ["number"]
    assert on_conflict(insert(parents)) is None


def test_appendages() -> None:
    """What a write returns and its CTEs are seen, plain columns left out."""
    cte = select(children.c.id).cte()
    written = update(parents).values(id=1).returning(parents.c.id, func.now()).add_cte(cte)
    assert [type(one).__name__ for one in appendages(written)] == ["now", "CTE"]


def test_plain_tables() -> None:
    """Aliased and annotated tables lead to the table."""
    for one in (parents, parents.alias(), update(Parent).table, update(aliased(Parent)).table):
        assert plain_table(one) is parents


def test_names_of_attributes() -> None:
    """A column goes by its attribute, and by its key unless that is another attribute."""
    mapper = Parent.__mapper__
    assert attribute_names(mapper, parents.c.other) == ("number", "other")
    assert attribute_names(mapper, parents.c.number) == ("code",)
    assert attribute_names(None, parents.c.number) == ("number",)


def test_functions_as_values() -> None:
    """The ORM's own functions last; those of applications may not."""
    statement = select(Child).where(with_parent(Parent(id=7), Parent.children))
    (bind,) = cache_key(statement)[1]
    assert is_lasting(bind.callable)
    assert not is_lasting(lambda: 7)
    assert bind.effective_value == 7


# -- mappers -----------------------------------------------------------------------------------


def test_mappers() -> None:
    """Every mapper of every base is found, and its tables."""
    assert {Parent.__mapper__, Child.__mapper__} <= set(all_mappers())
    assert tables_of(Parent.__mapper__) == [parents]
    assert tables_of(None) == []


def test_subjects() -> None:
    """ORM statements know their mapper; Core statements have none."""
    for statement in (select(Parent), insert(Parent), update(Parent), delete(Parent)):
        assert subject_of(statement) is Parent.__mapper__
        assert is_orm(statement)
    plain = Table("plain", MetaData(), Column("id", Integer))
    assert subject_of(select(plain)) is None
    assert not is_orm(select(plain))


def test_loaders(sqlite_session: Session) -> None:
    """Lazy and eager loaders say for whom they work."""
    seen: list[tuple[bool, Any, Any]] = []
    sqlite_session.add(Parent(id=1, code=1, number=1, children=[Child(id=1)]))
    sqlite_session.commit()

    @_listening(sqlite_session)
    def note(state: Any) -> None:
        options = state.execution_options
        seen.append(
            (
                works_for_a_row({**options, "_sa_orm_load_options": state.load_options}),
                getattr(loaded_from({"_sa_orm_load_options": state.load_options}), "class_", None),
                loading_parent(state.statement),
            )
        )

    parent = sqlite_session.scalars(select(Parent)).one()
    assert parent.children[0].id == 1
    sqlite_session.expire_all()
    sqlite_session.scalars(select(Parent).options(selectinload(Parent.children))).all()
    assert (False, None, None) in seen
    assert (True, Parent, None) in [(a, b, None) for a, b, _ in seen]
    assert Parent.__mapper__ in [parent for _, _, parent in seen]


def _listening(session: Session) -> Any:
    from sqlalchemy import event

    def decorate(function: Any) -> Any:
        event.listen(session, "do_orm_execute", function)
        return function

    return decorate


@pytest.fixture
def sqlite_session() -> Any:
    """A session on a database in memory."""
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()
