"""The rules of the house: which room imports which, and how big things get."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "router"

FOUNDATION = ("catalogue", "errors")
DECIDING = (*FOUNDATION, "shardmap", "hooks", "ids", "route", "rewrite")
DOING = (
    "replicas",
    "engines",
    "engines_async",
    "directory",
    "lookups",
    "transaction",
    "deadlocks",
    "execute",
    "merge",
    "gather",
)

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # The map and the routes are pure: no input, no output, no engine.
    "catalogue": (),
    "errors": ("catalogue",),
    "shardmap": FOUNDATION,
    "lanes": (),
    "hooks": (*FOUNDATION, "lanes"),
    "ids": (*FOUNDATION, "shardmap", "hooks"),
    "route": (*FOUNDATION, "shardmap", "hooks", "ids"),
    "rewrite": (*FOUNDATION, "shardmap", "hooks", "route"),
    # What waits for databases.  Transactions know nothing of statements.
    "transaction": (*FOUNDATION, "shardmap", "hooks"),
    "deadlocks": (*FOUNDATION, "hooks"),
    "engines": (*FOUNDATION, "shardmap", "hooks", "lanes"),
    "engines_async": (*FOUNDATION, "shardmap", "hooks", "engines"),
    "replicas": (*FOUNDATION, "shardmap", "hooks", "engines"),
    "directory": (*DECIDING, "engines"),
    "lookups": (*DECIDING, "engines"),
    "execute": (*DECIDING, "lanes", "engines"),
    "merge": (*DECIDING, "execute"),
    "gather": (*DECIDING, "engines", "execute"),
    # What users hold in their hands.
    "session": (*DECIDING, *DOING),
    "schema": (*DECIDING, *DOING, "session"),
    "check_unique": (*DECIDING, *DOING, "session"),
    "check_commits": (*DECIDING, *DOING, "session"),
    "check_replicas": (*DECIDING, *DOING, "session"),
    "check": (
        *DECIDING,
        *DOING,
        "session",
        "schema",
        "check_unique",
        "check_commits",
        "check_replicas",
    ),
    "backfill": (*DECIDING, *DOING, "session"),
    "explain": (*DECIDING, *DOING, "session"),
    "recovering": (*DECIDING, *DOING, "session"),
    "router": (
        *DECIDING,
        *DOING,
        "session",
        "schema",
        "check",
        "backfill",
        "explain",
        "recovering",
    ),
    "router.__init__": (*FOUNDATION, "shardmap", "route", "transaction", "session", "router"),
    # What stands beside.
    "testing": (*FOUNDATION, "shardmap", "route", "schema"),
    "demo": (*DECIDING, *DOING, "session", "schema", "router", "router.__init__", "testing"),
    "cli": (
        *DECIDING,
        *DOING,
        "session",
        "backfill",
        "explain",
        "router",
        "router.__init__",
        "testing",
        "demo",
    ),
}
"""Room: the rooms it may import.  A room is a module or a package directly below `router`."""

LATE = {"pydantic", "yaml", "xxhash", "rich", "typer", "psycopg", "pymysql"}
"""Imported when needed, so that `import router` stays quick."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[Path, ast.Module]:
    """Return every module of the package, parsed."""
    return {path: ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}


def room(path: Path) -> str:
    """Return the room that a module belongs to."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "router.__init__" if first == "__init__" else first


def imported_rooms(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and room of every import of the package, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "router":
                below = parts[1] if len(parts) > 1 else ""
                yield node.lineno, below if below in MAY_IMPORT else "router.__init__"


def where(path: Path, line: int) -> str:
    """Return a place that an editor can open."""
    return f"{path.relative_to(REPOSITORY)}:{line}"


def functions(tree: ast.Module) -> Iterator[Function]:
    """Yield every function and method."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """Return the lines of a function, its decorators and docstring left out."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_every_room_is_in_the_table() -> None:
    """A new module or package directly below `router` gets its line in the table."""
    assert {room(path) for path in modules()} <= MAY_IMPORT.keys()


def test_the_table_has_no_circle() -> None:
    """Imports point one way: the table lists every room below those it may import."""
    order = list(MAY_IMPORT)
    for name, allowed in MAY_IMPORT.items():
        assert all(order.index(other) < order.index(name) for other in allowed), name


def test_imports_point_one_way() -> None:
    """No module imports a room that its own room may not know."""
    wrong = [
        f"{where(path, line)}: {room(path)} imports {other}"
        for path, tree in modules().items()
        for line, other in imported_rooms(tree)
        if other != room(path) and other not in MAY_IMPORT[room(path)]
    ]
    assert wrong == []


def test_importing_the_package_is_light() -> None:
    """`import router` loads neither parsers nor drivers nor what prints to terminals."""
    source = f"import sys, router; print(sorted({LATE!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_files_are_short() -> None:
    """No file of the package is longer than the limit."""
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert [where(path, size) for path, size in sizes.items() if size > MAX_FILE_LINES] == []


def test_functions_are_short() -> None:
    """No function of the package is longer than the limit."""
    long = [
        f"{where(path, function.lineno)} {function.name}: {length(function)} lines"
        for path, tree in modules().items()
        for function in functions(tree)
        if length(function) > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_nothing_rests_on_assert() -> None:
    """Statements that `python -O` drops carry no meaning in the package."""
    found = [
        where(path, node.lineno)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    """Every module of the package opens with a docstring."""
    assert [where(path, 1) for path, tree in modules().items() if not ast.get_docstring(tree)] == []


def test_every_test_says_what_must_hold() -> None:
    """Every test has a docstring."""
    silent = [
        where(path, function.lineno)
        for path in sorted((REPOSITORY / "tests").rglob("test_*.py"))
        for function in functions(ast.parse(path.read_bytes()))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []
