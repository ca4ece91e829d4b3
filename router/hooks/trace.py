"""What a statement really selects from, as SQLAlchemy's own compiler resolves it.

ORM joins, eager joins, inheritance criteria and the correlation of subqueries are
decided while a statement is compiled.  Rather than deciding them a second time, and
differently, the compiler is run once per statement shape and watched.

Leans on `SQLCompiler.visit_select`, `SQLCompiler._setup_select_stack`, `CompileState.statement`
and `SQLCompiler.visit_*` of the constructs in `_Watcher`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import Table
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.expression import FromClause, Select


@dataclass(frozen=True, slots=True)
class Scope:
    """One SELECT as compiled: its Core form and what stands in its FROM."""

    select: Select[Any]
    froms: tuple[FromClause, ...]


@dataclass(slots=True)
class Trace:
    """Everything the compiler met in one statement."""

    scopes: dict[int, Scope] = field(default_factory=dict)
    tables: set[Table] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    binds: Counter[str] = field(default_factory=Counter)
    statement: Any = None
    compile_state: Any = None

    def scope_of(self, select: object) -> Scope | None:
        """Return the scope compiled from `select`, as it stands in the statement."""
        return self.scopes.get(id(select))


class _Watcher:
    """Mixed into a dialect's compiler; notes what is visited and changes nothing."""

    trace: Trace
    _selects: list[Any]

    def visit_select(self, select_stmt: Any, *args: Any, **kw: Any) -> str:
        self._selects.append(select_stmt)
        try:
            text: str = super().visit_select(select_stmt, *args, **kw)  # type: ignore[misc]
            return text
        finally:
            self._selects.pop()

    def _setup_select_stack(self, select: Any, *args: Any, **kw: Any) -> Sequence[FromClause]:
        froms: Sequence[FromClause] = super()._setup_select_stack(select, *args, **kw)  # type: ignore[misc]
        scope = Scope(select, tuple(froms))
        self.trace.scopes[id(self._selects[-1])] = scope
        self.trace.scopes[id(select)] = scope
        return froms

    def visit_table(self, table: Any, *args: Any, **kw: Any) -> str:
        self.trace.tables.add(table)
        text: str = super().visit_table(table, *args, **kw)  # type: ignore[misc]
        return text

    def visit_textclause(self, textclause: Any, *args: Any, **kw: Any) -> str:
        self.trace.texts.append(textclause.text)
        text: str = super().visit_textclause(textclause, *args, **kw)  # type: ignore[misc]
        return text

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        if column.is_literal:
            self.trace.texts.append(str(column.name))
        text: str = super().visit_column(column, *args, **kw)  # type: ignore[misc]
        return text

    def visit_function(self, func: Any, *args: Any, **kw: Any) -> str:
        names = (*getattr(func, "packagenames", ()), func.name)
        self.trace.functions.add(".".join(names).lower())
        text: str = super().visit_function(func, *args, **kw)  # type: ignore[misc]
        return text

    def visit_bindparam(self, bindparam: Any, *args: Any, **kw: Any) -> str:
        self.trace.binds[bindparam.key] += 1
        text: str = super().visit_bindparam(bindparam, *args, **kw)  # type: ignore[misc]
        return text

    def visit_sequence(self, sequence: Any, *args: Any, **kw: Any) -> str:
        self.trace.functions.add("nextval")
        text: str = super().visit_sequence(sequence, *args, **kw)  # type: ignore[misc]
        return text

    def visit_textual_select(self, taf: Any, *args: Any, **kw: Any) -> str:
        self.trace.opaque.add("a textual SELECT")
        text: str = super().visit_textual_select(taf, *args, **kw)  # type: ignore[misc]
        return text


@cache
def _watching(compiler: Any) -> Any:
    return type(f"Watching{compiler.__name__}", (_Watcher, compiler), {})


def trace(
    statement: ClauseElement, dialects: Iterable[Dialect], column_keys: list[str] | None = None
) -> Trace:
    """Compile `statement`, without a database, and return what was met on the way.

    The first of `dialects` that can compile it is used; raise its `CompileError` if none can.
    """
    failure: sa_exc.SQLAlchemyError | None = None
    for dialect in dialects:
        try:
            return _trace(statement, dialect, column_keys)
        except (sa_exc.CompileError, sa_exc.UnsupportedCompilationError) as error:
            failure = failure or error
    raise failure or sa_exc.CompileError("no dialect to compile with")


def _trace(statement: ClauseElement, dialect: Dialect, column_keys: list[str] | None) -> Trace:
    kind: Any = dialect.statement_compiler
    compiler = _watching(kind)
    watcher = compiler.__new__(compiler)
    watcher.trace = result = Trace()
    watcher._selects = []
    watcher.__init__(dialect, statement, column_keys=column_keys)
    result.compile_state = watcher.compile_state
    state = watcher.compile_state
    result.statement = getattr(state, "statement", None) if state is not None else None
    return result
