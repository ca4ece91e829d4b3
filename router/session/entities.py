"""Objects out of a gathered read, of classes whose rows are told apart by their shard.

The statement computes primary keys and shards on the copies; the objects are then loaded
from their own shards by primary key, so that identities and loader options are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, inspect, select, tuple_
from sqlalchemy.orm.query import FromStatement  # type: ignore[attr-defined]

from router.errors import CrossShardError
from router.gather.labels import label_of
from router.hooks.buffering import assembled, buffering
from router.hooks.loaders import eager_options, loaded_like, with_options
from router.session.execution import Execution

if TYPE_CHECKING:
    from router.session.routing import Routing

KEYS = 500
"""Objects that are asked for at a time."""

_AGAIN = "router_entities"


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of a SELECT: an entity, or a column, with its columns in the computed rows."""

    name: str
    expression: Any
    is_entity: bool
    is_labelled: bool
    columns: tuple[Any, ...]

    def selected(self) -> Iterator[Any]:
        """Yield the columns, those of entities under names that no other column has."""
        for column in self.columns:
            yield column.label(None) if self.is_entity else column


def parts_of(statement: Any, needs_token: Callable[[type], bool]) -> list[Part]:
    """Return the entries of an ORM SELECT."""
    return [_part(one, needs_token) for one in statement.column_descriptions]


def has_entities(statement: Any, which: Callable[[Any], bool] = bool) -> bool:
    """Return whether an ORM statement gives objects of a mapper for which `which` holds."""
    if not isinstance(statement, (Select, FromStatement)):
        return False
    return any(
        one["entity"] is not None
        and one["expr"] is one["entity"]
        and which(inspect(one["entity"]).mapper)
        for one in statement.column_descriptions
    )


def _part(description: Any, needs_token: Callable[[type], bool]) -> Part:
    expression, entity = description["expr"], description["entity"]
    if entity is None or expression is not entity:
        return Part(description["name"], expression, False, False, (expression,))
    inspected = inspect(entity)
    mapper = inspected.mapper
    keys = tuple(
        getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key
    )
    labelled = needs_token(mapper.base_mapper.class_)
    extra = (label_of(inspected),) if labelled else ()
    return Part(description["name"], entity, True, labelled, (*keys, *extra))


class Entities:
    """Loads the objects that a gathered statement names."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def execute(
        self, execution: Execution, statement: Any, compute: Callable[[Execution], Any]
    ) -> Any:
        """Return the rows of `statement`, whose keys `compute` finds."""
        self._refuse(execution, statement)
        parts = parts_of(statement, self._routing.wiring.needs_token)
        columns = [column for part in parts for column in part.selected()]
        computed = with_options(statement.with_only_columns(*columns))
        rows = compute(execution.of(computed)).all()
        ends = _ends(parts)
        cells = [[row[start:end] for row in rows] for start, end in ends]
        loaded = [
            self._load(part, found, execution, statement) if part.is_entity else found
            for part, found in zip(parts, cells, strict=True)
        ]
        return assembled([part.name for part in parts], loaded, execution.options)

    def _refuse(self, execution: Execution, statement: Any) -> None:
        whats = {
            "entities": not isinstance(statement, Select) or _AGAIN in execution.options,
            "GROUP BY": bool(getattr(statement, "_group_by_clauses", ())),
            "contains_eager()": any(eager_options(statement)),
        }
        for name, present in whats.items():
            if present:
                what = f"{name} of rows that several shards may have under one primary key"
                fix = "select their columns, load relationships by selectinload(), or name a shard"
                raise CrossShardError("R306", what, fix=fix)

    def _load(
        self, part: Part, cells: Sequence[Any], execution: Execution, statement: Any
    ) -> list[tuple[Any]]:
        found: dict[Any, Any] = {}
        wanted = dict.fromkeys(tuple(cell) for cell in cells if None not in tuple(cell))
        by_shard: dict[str | None, list[tuple[Any, ...]]] = {}
        for cell in wanted:
            key, shard = (cell[:-1], cell[-1]) if part.is_labelled else (cell, None)
            by_shard.setdefault(shard, []).append(key)
        for shard, keys in by_shard.items():
            for start in range(0, len(keys), KEYS):
                some = keys[start : start + KEYS]
                for one in self._objects(part, some, shard, execution, statement):
                    identity = tuple(inspect(one).mapper.primary_key_from_instance(one))
                    found[(*identity, shard) if part.is_labelled else identity] = one
        return [(found.get(tuple(cell)),) for cell in cells]

    def _objects(
        self,
        part: Part,
        keys: Sequence[tuple[Any, ...]],
        shard: str | None,
        execution: Execution,
        statement: Any,
    ) -> Iterable[Any]:
        columns = part.columns[:-1] if part.is_labelled else part.columns
        single = len(columns) == 1
        named = columns[0].in_([key[0] for key in keys]) if single else tuple_(*columns).in_(keys)
        query = select(part.expression).where(named)
        query = loaded_like(query, statement, inspect(part.expression).mapper)
        options = {**buffering(execution.options), _AGAIN: True}
        arguments = {}
        if shard is not None:
            options["identity_token"] = shard
            arguments = {"shard": shard}
        result = self._routing.session.execute(
            query, execution_options=options, bind_arguments=arguments
        )
        return result.unique().scalars().all()


def _ends(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    start = 0
    for part in parts:
        yield start, start + len(part.columns)
        start += len(part.columns)
