"""docs/frameworks.md shows code that the other tests here run."""

from __future__ import annotations

import re

import pytest

from tests.support.processes import REPOSITORY

PAGE = (REPOSITORY / "docs" / "frameworks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

OWN = ("db = SQLAlchemy(", "router = Router.from_yaml(", "@worker_process_init")
"""What blocks begin with that are not taken from a program."""


def programs() -> str:
    """Return the text of all examples and of their tests."""
    folders = (REPOSITORY / "examples", REPOSITORY / "tests" / "examples")
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_blocks_are_taken_from_programs() -> None:
    """Each stands in an example, letter by letter, but for the few that are listed."""
    taken = [block for block in BLOCKS if not block.startswith(OWN)]
    text = programs()
    assert len(taken) == len(BLOCKS) - len(OWN)
    assert [block for block in taken if block not in text] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.startswith(OWN)])
def test_the_others_can_be_read_by_python(block: str) -> None:
    """They are at least free of mistakes of spelling."""
    compile(block, "docs/frameworks.md", "exec")
