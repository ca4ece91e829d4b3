"""What is merged from shards against what one database gives, trap by trap."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Select, and_, bindparam, case, desc, distinct, func, literal_column, select
from sqlalchemy.orm import Bundle, aliased, contains_eager, joinedload, selectinload

from router.rewrite.terms import Family
from tests.conftest import DIALECTS, MakeDatabases
from tests.session.merging import SHARDS, Fact, Merging, Parent, merging

F, P = Fact, Parent


@pytest.fixture(scope="module", params=DIALECTS)
def merged(
    request: pytest.FixtureRequest, make_module_databases: MakeDatabases
) -> Iterator[Merging]:
    """All rows in one database, and over shards, on each kind of server."""
    urls = make_module_databases(request.param, 1 + SHARDS)
    with merging(request.param, urls) as found:
        yield found


def rows(*columns: Any) -> Select[Any]:
    """Return a SELECT of columns in a certain order."""
    return select(*columns).order_by(F.k, F.n)


# -- ORDER BY ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column", ["small", "i", "big", "dec", "free", "f", "d", "ts", "tz", "flag"]
)
@pytest.mark.parametrize("down", [False, True])
def test_nulls_and_nan_stand_where_the_database_puts_them(
    merged: Merging, column: str, down: bool
) -> None:
    """NULL is high on PostgreSQL and low elsewhere, NaN is above all numbers."""
    key = getattr(F, column)
    values = merged.agree(select(key, F.k).order_by(key.desc() if down else key, F.k, F.n))
    assert any("None" in repr(row[0]) for row in values)


@pytest.mark.parametrize("merged", ["postgresql", "sqlite"], indirect=True)
def test_nulls_stand_where_the_statement_puts_them(merged: Merging) -> None:
    """NULLS FIRST and NULLS LAST go before the dialect's own rule."""
    for key in (F.i.nulls_first(), F.i.desc().nulls_last(), F.i.desc().nulls_first()):
        merged.agree(select(F.i, F.k, F.n).order_by(key, F.k, F.n))


def test_what_rows_are_sorted_by_need_not_be_selected(merged: Merging) -> None:
    """A hidden column carries it, and is not seen."""
    one, result = merged.both(select(F.n).order_by(F.i.desc(), F.k, F.n))
    assert list(result.keys()) == ["n"]
    assert result.all() == one.all()


def test_names_labels_and_positions_are_understood(merged: Merging) -> None:
    """ORDER BY a label, its name, the name of a column, and a position."""
    twice = (F.i * 2).label("twice")
    for keys in (
        (twice, F.k, F.n),
        (desc("twice"), "k", "n"),
        (literal_column("1").desc(), literal_column("2"), literal_column("3")),
        (desc(twice), F.k, "facts_n"),
    ):
        merged.agree(select(twice, F.k, F.n).order_by(*keys))
    merged.agree(select(F).order_by(desc("n"), "k"))


@pytest.mark.parametrize("merged", ["postgresql", "sqlite"], indirect=True)
def test_text_is_sorted_by_code_points_where_the_database_does(merged: Merging) -> None:
    """Upper case before lower case, blanks and supplementary characters included."""
    merged.agree(select(F.t, F.k, F.n).order_by(F.t, F.k, F.n))
    merged.agree(select(F.k, F.n).order_by(func.lower(F.t).desc(), F.k, F.n))


@pytest.mark.parametrize("merged", ["mariadb"], indirect=True)
def test_text_that_only_the_database_sorts_is_left_to_it(merged: Merging) -> None:
    """No k-way merge, group or distinct by code points where 'a' may equal 'A'."""
    assert "ORDER BY" in merged.refused(select(F.k).order_by(F.t))
    assert "DISTINCT" in merged.refused(select(F.t).distinct())
    assert "GROUP BY" in merged.refused(select(F.t, func.count()).group_by(F.t))
    assert "max" in merged.refused(select(func.max(F.t)))


@pytest.mark.parametrize("merged", ["postgresql", "mariadb"], indirect=True)
def test_enums_are_left_to_the_database(merged: Merging) -> None:
    """They are sorted by their declaration."""
    assert "colour" in merged.refused(select(F.k).order_by(F.colour))


@pytest.mark.parametrize("merged", ["postgresql"], indirect=True)
def test_uuids_and_bytes_are_sorted_byte_by_byte(merged: Merging) -> None:
    """As PostgreSQL sorts them."""
    merged.agree(select(F.u, F.k, F.n).order_by(F.u, F.k, F.n))
    merged.agree(select(F.k, F.n).order_by(F.raw.desc(), F.k, F.n))


@pytest.mark.parametrize("merged", ["postgresql"], indirect=True)
def test_an_hour_that_a_clock_shows_twice_is_two_hours(merged: Merging) -> None:
    """Timestamps with a zone are compared as instants."""
    for session in (merged.whole, *merged.shards):
        session.execute(select(func.set_config("TimeZone", "Europe/Berlin", False)))
    try:
        merged.agree(select(F.tz, F.k, F.n).order_by(F.tz, F.k, F.n), keep=True)
        merged.agree(select(func.max(F.tz), func.min(F.tz)), keep=True)
    finally:
        for session in (merged.whole, *merged.shards):
            session.rollback()


# -- LIMIT ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "offset"), [(5, 0), (3, 4), (0, 2), (100, 90), (None, 7)])
def test_a_page_is_one_of_all_rows(merged: Merging, limit: int | None, offset: int) -> None:
    """Each shard gives limit + offset rows, of which the page is cut."""
    statement = rows(F.i, F.k).offset(offset).limit(limit)
    if limit is not None:
        assert merged.decomposed(statement).page.ends == limit + offset
    merged.agree(statement)


def test_a_page_may_be_a_parameter(merged: Merging) -> None:
    """LIMIT by name, and FETCH FIRST."""
    statement = rows(F.k, F.n).limit(bindparam("most"))
    assert len(merged.agree(statement, {"most": 4})) == 4
    if merged.terms.family is not Family.SQLITE:
        merged.agree(rows(F.k).fetch(6))
    assert "LIMIT" in merged.refused(rows(F.k).limit(literal_column("1 + 1")))
    assert "FETCH" in merged.refused(rows(F.k).fetch(3, with_ties=True))
    assert "FETCH" in merged.refused(rows(F.k).fetch(3, percent=True))


def test_any_rows_do_for_an_unordered_limit(merged: Merging) -> None:
    """As many as asked for, each of them there."""
    one, result = merged.both(select(F.k, F.n).limit(9))
    found = result.all()
    assert len(found) == len(one.all()) == 9
    assert set(found) <= set(merged.whole.execute(select(F.k, F.n)).all())


# -- DISTINCT ------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["i", "dec", "f", "d", "ts", "flag", "small", "big", "wide"])
def test_equal_rows_of_several_shards_are_one(merged: Merging, column: str) -> None:
    """NULL equals NULL, NaN equals NaN."""
    key = getattr(F, column)
    found = merged.agree(select(key).distinct(), ordered=False)
    assert len(found) < len(merged.whole.scalars(select(key)).all())
    merged.agree(select(key).distinct().order_by(key.desc()).limit(3).offset(1))


@pytest.mark.parametrize("merged", ["postgresql"], indirect=True)
def test_numbers_that_look_different_and_are_equal_are_left_to_the_database(
    merged: Merging,
) -> None:
    """1 and 1.00 are one row: which of them is shown?"""
    for statement in (
        select(F.free).distinct(),
        select(F.free, func.count()).group_by(F.free),
        select(func.max(F.free)),
    ):
        assert "free" in merged.refused(statement)


def test_distinct_rows_sorted_by_others_are_left_to_the_database(merged: Merging) -> None:
    """A hidden column would tell equal rows apart."""
    assert "not one of theirs" in merged.refused(select(F.i).distinct().order_by(F.n))


def test_what_stands_outside_of_the_clauses_is_left_to_the_database(merged: Merging) -> None:
    """Prefixes, hints, and tables that only ORDER BY or HAVING names."""
    merged.refused(select(F.i).prefix_with("SQL_CALC_FOUND_ROWS").order_by(F.i))
    merged.refused(select(F.i).with_statement_hint("x").order_by(F.i))
    assert "FROM" in merged.refused(select(F.n).order_by(P.k))
    assert "FROM" in merged.refused(select(func.count()).having(func.max(F.i) > 1))


# -- aggregates ----------------------------------------------------------------------------------


def test_aggregates_are_over_all_rows(merged: Merging) -> None:
    """With the types that the database gives: sums are no int everywhere."""
    merged.agree(select(func.count(), func.count(F.i), func.min(F.i), func.max(F.d)))
    merged.agree(select(func.sum(F.i), func.sum(F.small), func.sum(F.big)))
    merged.agree(select(func.coalesce(func.sum(F.i), 0), func.max(F.i) - func.min(F.i)))


def test_of_no_rows_sums_are_null_and_counts_are_zero(merged: Merging) -> None:
    """One row without GROUP BY, none with."""
    sums = (func.count(), func.count(F.i), func.sum(F.i), func.max(F.d), func.avg(F.i))
    assert len(merged.agree(select(*sums).where(F.k > 1000))) == 1
    assert merged.agree(select(F.i, *sums).where(F.k > 1000).group_by(F.i)) == []
    assert merged.agree(select(*sums).where(F.k > 1000).having(func.count() > 0)) == []


@pytest.mark.parametrize("merged", ["postgresql", "mariadb"], indirect=True)
def test_decimal_sums_keep_every_digit(merged: Merging) -> None:
    """More digits than Python's decimals keep unless told to."""
    many = func.sum(F.wide * Decimal("98765432109876543.123456789"))
    found = merged.agree(select(func.sum(F.wide), func.sum(F.dec), func.sum(F.free), many))
    assert len(found[0][3][1]) > 40


def test_an_average_is_not_one_of_averages(merged: Merging) -> None:
    """Sums and counts are divided once, as the database divides."""
    merged.agree(select(func.avg(F.i), func.avg(F.small), func.avg(F.big)))
    merged.agree(select(F.flag, func.avg(F.i)).group_by(F.flag), ordered=False)


@pytest.mark.parametrize("merged", ["mariadb"], indirect=True)
def test_averages_with_hidden_digits_are_left_to_the_database(merged: Merging) -> None:
    """MariaDB shows four more digits, and compares with more."""
    by_average = select(F.i).group_by(F.i).order_by(func.avg(F.small))
    assert "digits" in merged.refused(by_average)
    assert "digits" in merged.refused(select(F.i).group_by(F.i).having(func.avg(F.small) > 1))


def test_sums_of_floats_are_left_to_the_database(merged: Merging) -> None:
    """They depend on the order of rows."""
    for statement in (select(func.sum(F.f)), select(func.avg(F.f)), select(func.sum(F.f) + 1)):
        assert "sum" in merged.refused(statement) or "avg" in merged.refused(statement)


@pytest.mark.parametrize(
    "make",
    [
        lambda: func.count(distinct(F.i)),
        lambda: func.sum(distinct(F.i)),
        lambda: func.stddev(F.i),
        lambda: func.var_pop(F.i),
        lambda: func.string_agg(F.t, ","),
        lambda: func.array_agg(F.i),
        lambda: func.percentile_cont(0.5).within_group(F.i),
        lambda: func.my_aggregate(F.i),
        lambda: func.sum(F.i) / func.count(),
        lambda: func.round(func.avg(F.i), 1),
        lambda: func.random(),
    ],
)
def test_what_does_not_add_up_is_left_to_the_database(merged: Merging, make: Any) -> None:
    """Distinct counts, deviations, lists, divisions, unknown functions."""
    merged.refused(select(make()))
    merged.refused(select(F.i, make()).group_by(F.i))


def test_distinct_shard_keys_add_up(merged: Merging) -> None:
    """No key is on two shards."""
    merged.agree(select(func.count(distinct(F.k)), func.sum(F.k.distinct())))
    merged.agree(select(F.i, func.count(F.k.distinct())).group_by(F.i), ordered=False)


@pytest.mark.parametrize("merged", ["postgresql", "sqlite"], indirect=True)
def test_filters_stay_with_their_aggregates(merged: Merging) -> None:
    """FILTER of an average is one of its sum and of its count."""
    few = and_(F.i > 0, F.n < 2)
    merged.agree(select(*(one.filter(few) for one in (func.count(), func.sum(F.i)))))
    merged.agree(select(func.avg(F.i).filter(few), func.avg(F.i), func.max(F.i).filter(few)))


@pytest.mark.parametrize("merged", ["postgresql"], indirect=True)
def test_truth_is_put_together(merged: Merging) -> None:
    """bool_and, bool_or and every, NULL left out."""
    found = (func.bool_and(F.flag), func.bool_or(F.flag), func.every(F.flag))
    merged.agree(select(*found))
    third = F.k % 3
    merged.agree(select(F.n, third, *found).group_by(F.n, third), ordered=False)


# -- GROUP BY and HAVING -------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["i", "dec", "f", "d", "ts", "flag", "small", "n"])
def test_groups_cross_shards(merged: Merging, column: str) -> None:
    """A group is one, on whichever shards its rows are."""
    key = getattr(F, column)
    found = merged.agree(select(key, func.count(), func.sum(F.i)).group_by(key), ordered=False)
    assert len(found) < sum(len(one.scalars(select(key).distinct()).all()) for one in merged.shards)


def test_groups_of_a_shard_key_stay_on_their_shard(merged: Merging) -> None:
    """Whatever is aggregated there; HAVING and LIMIT go along."""
    deviation = func.count(distinct(F.i))
    statement = select(F.k, deviation).group_by(F.k).having(deviation > 1).order_by(desc(F.k))
    found = merged.decomposed(statement.limit(4))
    assert found.groups is None
    assert "HAVING" in str(found.statement)
    merged.agree(statement.limit(4))
    merged.agree(select(F.k, func.max(F.f)).group_by(F.k), ordered=False)


def test_having_and_limit_wait_for_whole_groups(merged: Merging) -> None:
    """No shard can tell which groups pass, nor which are first."""
    total = func.sum(F.small).label("total")
    statement = (
        select(F.n, total, func.count())
        .group_by(F.n)
        .having(func.count() > 6, func.sum(F.i).is_not(None))
        .order_by(desc("total"), F.n)
        .limit(3)
    )
    sent = str(merged.decomposed(statement).statement)
    assert "HAVING" not in sent
    assert "LIMIT" not in sent
    assert len(merged.agree(statement)) == 3


def test_columns_that_no_group_decides_are_left_to_the_database(merged: Merging) -> None:
    """Which of a group's values would be shown?"""
    merged.refused(select(F.i, F.n, func.count()).group_by(F.i))
    merged.refused(select(F.n, func.count()))
    merged.refused(select(F, func.count()).group_by(F.n))


def test_expressions_of_aggregates_are_computed_after_the_merge(merged: Merging) -> None:
    """Over NULL, too."""
    big = case((F.i > 3, F.small), else_=0)
    found = [func.sum(big) * 2 - func.count(F.i), func.sum(F.i) + func.sum(F.small)]
    merged.agree(select(F.n, *found).group_by(F.n).order_by(found[0], F.n))


# -- windows -------------------------------------------------------------------------------------


def test_a_window_over_a_shard_key_stays_on_its_shard(merged: Merging) -> None:
    """Other windows are left to the database."""
    number = func.row_number().over(partition_by=F.k, order_by=F.n)
    merged.agree(select(F.k, F.n, number).order_by(number, F.k))
    ranked = func.rank().over(order_by=F.i)
    assert "window" in merged.refused(select(ranked))
    assert "window" in merged.refused(select(F.k, number, ranked))
    assert "window" in merged.refused(select(func.sum(F.i).over(partition_by=F.i)))


# -- the ORM -------------------------------------------------------------------------------------


def test_objects_come_sorted_and_single(merged: Merging) -> None:
    """Entities, aliases, bundles, tuples of them, and joined loads of one object."""
    other = aliased(F)
    for statement in (
        select(F).order_by(F.i, F.k, F.n),
        select(P, F).join(P.facts).order_by(F.n.desc(), P.k),
        select(other).order_by(other.i.desc(), other.k, other.n).limit(7),
        select(Bundle("both", F.k, F.n), F).order_by(F.i, F.k, F.n),
        select(Bundle("both", F.k, F.n, single_entity=True)).order_by(F.i, F.k, F.n),
        select(F).options(joinedload(F.parent)).order_by(F.i, F.k, F.n).limit(5).offset(2),
        select(F).join(F.parent).options(contains_eager(F.parent)).order_by(P.k.desc(), F.n),
        select(P).options(selectinload(P.facts)).order_by(P.k % 5, P.k).limit(8),
        select(F).distinct().order_by(F.i, F.k, F.n),
    ):
        merged.agree(statement)
        scalars = [list(one.scalars()) for one in merged.both(statement)]
        assert [type(one) for one in scalars[1]] == [type(one) for one in scalars[0]]


def test_collections_loaded_by_joins_are_whole(merged: Merging) -> None:
    """unique() is as necessary as with one database; a LIMIT counts objects, not rows."""
    statement = select(P).options(joinedload(P.facts)).order_by(P.k % 5, P.k)
    one, result = merged.both(statement)
    with pytest.raises(Exception, match="unique"):
        result.all()
    with pytest.raises(Exception, match="unique"):
        one.all()
    merged.agree(statement, unique=True)
    assert "LIMIT" in merged.refused(statement.limit(3))


def test_objects_stay_apart_while_a_result_is_read(merged: Merging) -> None:
    """An id that is free again must not hide another shard's object."""
    statement = select(F).options(joinedload(F.parent))
    for _ in range(5):
        _, result = merged.both(statement)
        count = sum(1 for _ in result.unique())
        assert count == merged.whole.scalar(select(func.count()).select_from(F))
