"""Fragments of text: what is let through unread."""

from __future__ import annotations

import pytest

from router.route.texts import hazard, is_plain_value


@pytest.mark.parametrize(
    "text",
    [
        "total > 1",
        "total = 1 AND state = 'x'",
        "(total = 1 OR total = 2)",
        "f(a, (b or c)) = 1",
        "state = 'a or b'",
        "state = 'it''s (fine'",
        'x."or" = 1',
        "lower(state) LIKE 'a%'",
        "ordinal = 1",
    ],
)
def test_harmless(text: str) -> None:
    """Plain conditions and expressions pass."""
    assert hazard(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a = 1 OR b = 2",
        "a = 1 or b = 2",
        "a = 1\nOR\nb = 2",
        "a XOR b",
        "a || b",
        "a = 1) OR (b = 2",
        "(a = 1",
        "a = 1)",
        "a BETWEEN 1",
        "CASE WHEN a",
        "THEN 1 END",
        "(a) or (b)",
        "a = ')' or '('",
    ],
)
def test_needing_parentheses(text: str) -> None:
    """What binds less tightly than AND, or is half of something, is refused."""
    assert hazard(text) == "needs parentheses around it"


@pytest.mark.parametrize(
    "text",
    [
        "a = 1 --",
        "a = 1 /* b",
        "a = 1 # b",
        "a = 'x",
        'a = "x',
        "a = '\\' or 1=1 '",
        "a = $$'$$",
        "a; b",
    ],
)
def test_hiding_what_follows(text: str) -> None:
    """Comments, open quotes and escapes are refused: dialects read them differently."""
    assert hazard(text) == "may hide what follows it"


@pytest.mark.parametrize(
    "text", ["EXISTS (SELECT 1)", "x IN (TABLE y)", "a UNION VALUES (1)", "FROM b"]
)
def test_naming_tables(text: str) -> None:
    """What may read a table is refused."""
    assert hazard(text) == "may name tables"


def test_plain_values() -> None:
    """Only a star and numbers are values in themselves."""
    assert is_plain_value("*")
    assert is_plain_value("17")
    assert not is_plain_value("rowid")
    assert not is_plain_value("1 + random()")
