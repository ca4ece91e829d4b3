"""Expressions for people, written only when somebody reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """An expression: short, and without the values of parameters."""

    expression: Any

    def __str__(self) -> str:
        text = " ".join(str(self.expression).split())
        return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Several expressions with a word between them."""

    word: str
    parts: Sequence[Shown | Joined]

    def __str__(self) -> str:
        return self.word.join(map(str, self.parts))


Text = Shown | Joined
