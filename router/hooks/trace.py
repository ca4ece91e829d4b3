"""What a statement really selects from, as SQLAlchemy's own compiler resolves it.

ORM joins, eager joins, inheritance criteria and the correlation of subqueries are
decided while a statement is compiled.  Rather than deciding them a second time, and
differently, the compiler is run once per statement shape and watched.

Leans on `SQLCompiler.visit_select`, `SQLCompiler._setup_select_stack`, `SQLCompiler.visit_*`
of the constructs in `_Watcher`, `CompileState.statement`, `ORMSelectCompileState.eager_joins`,
`DMLState._extra_froms`, and the `_compiler_dispatcher` that ``@compiles`` leaves on a class.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import Table
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.expression import FromClause, Select


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """One SELECT as compiled: what it was made from, its Core form, what stands in its FROM."""

    source: Any
    select: Select[Any]
    froms: tuple[FromClause, ...]


@dataclass(slots=True)
class Trace:
    """Everything the compiler met in one statement."""

    scopes: list[Scope] = field(default_factory=list)
    tables: set[Table] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    operators: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    custom: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    binds: Counter[str] = field(default_factory=Counter)
    columns: set[tuple[Any, str]] = field(default_factory=set)
    whole_rows: bool = False
    joins_eagerly: bool = False
    writes: list[str] = field(default_factory=list)
    statement: Any = None
    extra_froms: Sequence[FromClause] = ()

    def scope_of(self, select: object) -> Scope | None:
        """Return the scope compiled from `select`, as it stands in the statement.

        None if there is none, or if the same object means different things in two places.
        """
        found = [one for one in self.scopes if select is one.source or select is one.select]
        first = found[0] if found else None
        alike = all(_same(one.froms, found[0].froms) for one in found)
        return first if alike else None


def _same(left: Sequence[object], right: Sequence[object]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


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
        self.trace.scopes.append(Scope(self._selects[-1], select, tuple(froms)))
        self.trace.texts.extend(_hints(select))
        return froms

    def visit_table(self, table: Any, *args: Any, **kw: Any) -> str:
        self.trace.tables.add(table)
        text: str = super().visit_table(table, *args, **kw)  # type: ignore[misc]
        return text

    def visit_textclause(self, textclause: Any, *args: Any, **kw: Any) -> str:
        self.trace.texts.append(textclause.text)
        text: str = super().visit_textclause(textclause, *args, **kw)  # type: ignore[misc]
        return text

    def visit_tstring(self, tstring: Any, *args: Any, **kw: Any) -> str:
        self.trace.opaque.add("a template string")
        text: str = super().visit_tstring(tstring, *args, **kw)  # type: ignore[misc]
        return text

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        self.trace.columns.add((column.table, column.name))
        if column.is_literal:
            self.trace.texts.append(str(column.name))
        text: str = super().visit_column(column, *args, **kw)  # type: ignore[misc]
        return text

    def visit_table_valued_column(self, element: Any, **kw: Any) -> str:
        self.trace.whole_rows = True
        text: str = super().visit_table_valued_column(element, **kw)  # type: ignore[misc]
        return text

    def visit_custom_op_binary(self, element: Any, operator: Any, **kw: Any) -> str:
        self.trace.custom.add(operator.opstring)
        # SQLAlchemy puts parentheses around the others.
        if operator.precedence > 0:
            self.trace.operators.append(operator.opstring)
        text: str = super().visit_custom_op_binary(element, operator, **kw)  # type: ignore[misc]
        return text

    def visit_custom_op_unary_operator(self, element: Any, operator: Any, **kw: Any) -> str:
        self.trace.custom.add(operator.opstring)
        text: str = super().visit_custom_op_unary_operator(element, operator, **kw)  # type: ignore[misc]
        return text

    def visit_custom_op_unary_modifier(self, element: Any, operator: Any, **kw: Any) -> str:
        self.trace.custom.add(operator.opstring)
        text: str = super().visit_custom_op_unary_modifier(element, operator, **kw)  # type: ignore[misc]
        return text

    def visit_extract(self, extract: Any, **kw: Any) -> str:
        self.trace.fields.append(str(extract.field))
        text: str = super().visit_extract(extract, **kw)  # type: ignore[misc]
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

    def visit_insert(self, insert_stmt: Any, *args: Any, **kw: Any) -> str:
        self.trace.writes.append("INSERT")
        text: str = super().visit_insert(insert_stmt, *args, **kw)  # type: ignore[misc]
        return text

    def visit_update(self, update_stmt: Any, *args: Any, **kw: Any) -> str:
        self.trace.writes.append("UPDATE")
        self.trace.texts.extend(_hints(update_stmt))
        text: str = super().visit_update(update_stmt, *args, **kw)  # type: ignore[misc]
        return text

    def visit_delete(self, delete_stmt: Any, *args: Any, **kw: Any) -> str:
        self.trace.writes.append("DELETE")
        self.trace.texts.extend(_hints(delete_stmt))
        text: str = super().visit_delete(delete_stmt, *args, **kw)  # type: ignore[misc]
        return text


def _hints(statement: Any) -> Iterator[str]:
    yield from (getattr(statement, "_hints", None) or {}).values()
    yield from (text for _, text in getattr(statement, "_statement_hints", None) or ())


@cache
def _watching(compiler: Any) -> Any:
    return type(f"Watching{compiler.__name__}", (_Watcher, compiler), {})


def trace(
    statement: ClauseElement, dialects: Iterable[Dialect], column_keys: list[str] | None = None
) -> Trace:
    """Compile `statement`, without a database, and return what was met on the way.

    The first of `dialects` that can compile it is used; raise its `CompileError` if none can.
    """
    failure: sa_exc.CompileError | None = None
    dialects = list(dialects)
    for dialect in dialects:
        try:
            found = _trace(statement, dialect, column_keys)
        except sa_exc.CompileError as error:
            failure = failure or error
        except NotImplementedError as error:
            failure = failure or sa_exc.CompileError(str(error))
        else:
            _note_custom(found, statement, dialects)
            return found
    raise failure or sa_exc.CompileError("no dialect to compile with")


def _trace(statement: ClauseElement, dialect: Dialect, column_keys: list[str] | None) -> Trace:
    kind: Any = dialect.statement_compiler
    compiler = _watching(kind)
    watcher = compiler.__new__(compiler)
    watcher.trace = result = Trace()
    watcher._selects = []
    watcher.__init__(dialect, statement, column_keys=column_keys)
    result.statement = getattr(watcher.compile_state, "statement", None)
    result.joins_eagerly = bool(getattr(watcher.compile_state, "eager_joins", None))
    result.extra_froms = tuple(getattr(watcher.compile_state, "_extra_froms", None) or ())
    return result


# -- constructs compiled by the application ----------------------------------------------------


def is_custom(part: Any) -> bool:
    """Return whether the application says with ``@compiles`` how `part` is rendered."""
    return hasattr(type(part), "_compiler_dispatcher")


def _note_custom(found: Trace, statement: Any, dialects: Sequence[Dialect]) -> None:
    """Read the SQL that constructs with an ``@compiles`` of their own render."""
    roots = [statement, found.statement, *(scope.select for scope in found.scopes)]
    parts = {
        id(part): part for root in roots if root is not None for part in visitors.iterate(root)
    }
    for part in parts.values():
        if is_custom(part):
            found.functions.add(type(part).__name__.lower())
            found.texts.extend(_rendered(part, found, dialects))


def _rendered(part: Any, found: Trace, dialects: Sequence[Dialect]) -> Iterator[str]:
    for dialect in dialects:
        try:
            yield str(part.compile(dialect=dialect))
        except (sa_exc.SQLAlchemyError, AttributeError, KeyError, TypeError):
            found.opaque.add(f"the construct {type(part).__name__}")
