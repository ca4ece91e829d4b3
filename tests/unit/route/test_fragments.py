"""What a guard lets through of what SQLAlchemy does not read."""

from __future__ import annotations

import pytest

from router.hooks.trace import Trace
from router.route.fragments import fragments_of


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "*",
        "name",
        "name DESC NULLS LAST",
        "1 = 1",
        "(total > 3 OR name = 'SELECT')",
        "lower(name) = 'x'",
        "name IN ('a', 'b')",
        "'%'",
        "2.5 * total",
    ],
)
def test_text_that_only_looks_at_the_row(text: str) -> None:
    """Names of columns, values, operators and known functions are let through."""
    assert list(fragments_of(Trace(texts=[text]))) == []


@pytest.mark.parametrize(
    "text",
    [
        "(SELECT 1)",
        "1 = 1 OR 1 = 1",
        "leak(1)",
        '"leak"(1)',
        "`leak` (1)",
        "orders.leak",
        'orders."leak"',
        "name -- hidden",
        "name /* hidden",
        "$$ x $$",
        "'a\\' OR 1'",
        "x) OR (y",
    ],
)
def test_text_that_may_do_more(text: str) -> None:
    """What may name tables, call functions or change what is around it is not."""
    assert len(list(fragments_of(Trace(texts=[text])))) == 1


def test_operators_and_functions() -> None:
    """Symbols and words are operators; what is longer may be a statement."""
    symbols = {"@>", "->>", "||", "SOUNDS LIKE", "<->"}
    fine = Trace(custom=symbols, fields=["epoch"], functions={"lower"})
    assert list(fragments_of(fine)) == []
    bad = ["IN (SELECT 1) OR", "= 1 OR 1 =", "/*", "--", "OR", "union"]
    assert len(list(fragments_of(Trace(fields=bad)))) == len(bad)
    assert len(list(fragments_of(Trace(custom=set(bad))))) == len(bad)
    assert list(fragments_of(Trace(functions={"query_to_xml"}))) == ["function query_to_xml()"]
