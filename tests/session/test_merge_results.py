"""A merged result is a result: all of its methods, streaming, closing, caching, Query."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Result, Row, bindparam, event, func, select
from sqlalchemy.exc import InvalidRequestError, MultipleResultsFound, ResourceClosedError
from sqlalchemy.orm import Query, joinedload

from router.merge import merge
from router.rewrite.decompose import Decomposition
from tests.conftest import MakeDatabases
from tests.session.merging import SHARDS, Fact, Merging, Parent, exact, merging

F, P = Fact, Parent


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def merged(
    request: pytest.FixtureRequest, make_module_databases: MakeDatabases
) -> Iterator[Merging]:
    """All rows in one database, and over shards."""
    urls = make_module_databases(request.param, 1 + SHARDS)
    with merging(request.param, urls, seed=3) as found:
        yield found


ORDERED = select(F.k, F.n, F.i).order_by(F.i, F.k, F.n)
TABLE = select(F.__table__).order_by(F.__table__.c.i, F.__table__.c.k, F.__table__.c.n)
ENTITIES = select(F).order_by(F.i, F.k, F.n)

USES: dict[str, Any] = {
    "all": lambda r: r.all(),
    "fetchall": lambda r: r.fetchall(),
    "iterate": list,
    "first": lambda r: r.first(),
    "scalar": lambda r: r.scalar(),
    "fetchone": lambda r: [r.fetchone(), r.fetchone()],
    "fetchmany": lambda r: [r.fetchmany(3), r.fetchmany(500), r.fetchmany(2)],
    "partitions": lambda r: list(r.partitions(4)),
    "mappings": lambda r: r.mappings().all(),
    "scalars": lambda r: r.scalars().all(),
    "unique scalars": lambda r: r.unique().scalars().all(),
    "next": lambda r: [next(r), next(r)],
    "freeze": lambda r: r.freeze()().all(),
    "unique first": lambda r: r.unique().first(),
}


def seen(value: Any) -> Any:
    """Return rows, objects and lists of them in a form that can be compared."""
    if isinstance(value, Fact):
        return value.k, value.n
    if isinstance(value, list | tuple | Row):
        return [seen(one) for one in value]
    return {str(k): seen(v) for k, v in value.items()} if hasattr(value, "items") else repr(value)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("statement", [ORDERED, TABLE, ENTITIES, ENTITIES.limit(4).offset(1)])
def test_every_way_of_reading_works(merged: Merging, use: str, statement: Any) -> None:
    """As with the result of one database."""
    one, result = merged.both(statement)
    assert seen(USES[use](result)) == seen(USES[use](one))


def test_columns_can_be_chosen_and_found(merged: Merging) -> None:
    """By position, by name, by the column itself, where names are not unique, too."""
    table = F.__table__
    for columns in ((0,), (1, 0), ("i", "k"), (table.c.n, 2)):
        one, result = merged.both(select(table.c.k, table.c.n, table.c.i).order_by(table.c.ts))
        assert sorted(map(repr, result.columns(*columns))) == sorted(
            map(repr, one.columns(*columns))
        )
    total = func.sum(F.i).label("total")
    row = merged.both(select(total, func.count().label("rows")))[1].one()
    assert row._mapping[total] == row.total == row[0]
    twice = select(F.k, P.k).join(F.parent).order_by(F.i, F.k, F.n)
    merged.agree(twice)


def test_one_is_one(merged: Merging) -> None:
    """Two rows, no row, exactly one."""
    with pytest.raises(MultipleResultsFound):
        merged.both(ORDERED)[1].one()
    assert merged.both(ORDERED.where(F.k == 1000))[1].one_or_none() is None
    assert merged.both(ORDERED.limit(1))[1].one() == merged.whole.execute(ORDERED.limit(1)).one()


def test_a_closed_result_closes_every_shard(merged: Merging) -> None:
    """And cannot be read any more."""
    found = merged.decomposed(ORDERED)
    results = shards(merged, found)
    result = merge(results, found)
    next(result)
    result.close()
    assert result.closed
    assert all(one.closed for one in results)
    with pytest.raises(ResourceClosedError):
        result.all()


def shards(merged: Merging, found: Decomposition, **options: Any) -> list[Result[Any]]:
    """Execute on every shard."""
    return [
        session.execute(found.statement, found.params, execution_options=options)
        for session in merged.shards
    ]


@pytest.mark.parametrize("stop", ["limit", "first", "error"])
def test_cursors_do_not_outlive_their_use(merged: Merging, stop: str) -> None:
    """Whether reading ends early by LIMIT, by choice or by an error."""
    statement = ORDERED.limit(1) if stop == "limit" else ORDERED
    found = merged.decomposed(statement)
    results = shards(merged, found, stream_results=True, yield_per=1)
    if stop == "error":
        results[1].close()
    result = merge(results, found)
    if stop == "limit":
        result.all()
    elif stop == "first":
        result.first()
    else:
        with pytest.raises(ResourceClosedError):
            result.all()
    assert all(one._soft_closed for one in results)


def test_rows_are_read_as_they_are_asked_for(merged: Merging) -> None:
    """With yield_per, only some rows of each shard are objects at a time."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = count = 0
    for session in merged.shards:
        session.expunge_all()
        event.listen(session, "loaded_as_persistent", lambda _, found: alive.add(found))
    found = merged.decomposed(ENTITIES)
    for part in merge(shards(merged, found, yield_per=2), found).partitions(3):
        most, count = max(most, len(alive)), count + len(part)
    assert count == merged.whole.scalar(select(func.count()).select_from(F))
    assert most <= (SHARDS + 1) * 3 < count


def test_yield_per_and_unique_do_not_go_together(merged: Merging) -> None:
    """As with one database."""
    for result in merged.both(ENTITIES, yield_per=5):
        with pytest.raises(InvalidRequestError, match="yield_per"):
            result.unique().all()


def test_the_same_shape_is_compiled_once(merged: Merging) -> None:
    """Another page, other values: the same statement for SQLAlchemy's cache."""

    def sent(value: int, limit: int) -> Any:
        statement = select(F.n).where(F.i > value).order_by(F.dec).limit(limit).offset(value)
        return merged.decomposed(statement).statement

    first, second = (sent(*one)._generate_cache_key() for one in ((1, 2), (3, 4)))
    assert first == second
    assert [bind.value for bind in first.bindparams] != [bind.value for bind in second.bindparams]
    average = select(F.i, func.avg(F.small)).group_by(F.i).having(func.count() > 1)
    keys = {merged.decomposed(average).statement._generate_cache_key().key for _ in range(2)}
    assert len(keys) == 1


def test_parameters_may_be_given_by_name(merged: Merging) -> None:
    """To the execution, or to the statement."""
    more = select(F.n, func.count()).group_by(F.n).having(func.count() > bindparam("least"))
    assert merged.agree(more, {"least": 9}, ordered=False)
    assert merged.agree(more.params(least=9), ordered=False)
    paged = ORDERED.limit(bindparam("most"))
    assert len(merged.agree(paged.params(most=2))) == 2
    merged.refused(paged)


def test_query_reads_merged_results(merged: Merging) -> None:
    """Objects, unique objects, and tuples, as Query asks for them."""

    def answers(execute: Any) -> list[Any]:
        found = []
        for make in (
            lambda s: s.query(F).order_by(F.i, F.k, F.n).limit(5),
            lambda s: s.query(F.k, F).order_by(F.i.desc(), F.k, F.n),
            lambda s: s.query(F.i, func.count(F.n)).group_by(F.i).order_by(F.i),
            lambda s: s.query(P).options(joinedload(P.facts)).order_by(P.k),
            lambda s: s.query(F).order_by(F.i, F.k, F.n).only_return_tuples(True),
        ):
            found.append(seen([exactly(one) for one in make(execute).all()]))
        return found

    assert answers(Fanned(merged)) == answers(merged.whole)


def exactly(one: Any) -> Any:
    """Return an object as its key, a row as a tuple of those."""
    return ("P", one.k, len(one.facts)) if isinstance(one, Parent) else one


class Fanned:
    """A session as far as Query needs one: it decomposes, executes everywhere, and merges."""

    def __init__(self, merged: Merging) -> None:
        self.merged = merged

    def query(self, *entities: Any) -> Query[Any]:
        """Return a query that is executed here."""
        return Query(entities, session=self)  # type: ignore[arg-type]

    def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Execute on every shard."""
        found = self.merged.decomposed(statement, params)
        options.pop("bind_arguments", None)
        results = [one.execute(found.statement, params, **options) for one in self.merged.shards]
        return merge(results, found)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.merged.shards[0], name)


def test_steps_can_be_read(merged: Merging) -> None:
    """What explain shows."""
    found = merged.decomposed(
        select(F.n, func.sum(F.i)).group_by(F.n).order_by(F.n.desc()).limit(3).offset(1)
    )
    assert found.steps == (
        "group by facts.n",
        "sum of sum(facts.i)",
        "order by facts.n desc",
        "skip 1 rows",
        "at most 3 rows",
    )
    assert merged.decomposed(select(F)).steps == ("rows of one shard after another",)


def test_rows_look_alike(merged: Merging) -> None:
    """The row of a plain statement is the row of one database."""
    one, result = merged.both(TABLE)
    assert exact(result) == exact(one)
