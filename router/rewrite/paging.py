"""LIMIT, OFFSET and FETCH: how many rows of each shard, and how many of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select
from sqlalchemy.sql.elements import BindParameter

from router.errors import RoutingError
from router.hooks.statements import cache_key
from router.rewrite.terms import InexactError
from router.route.parameters import plain_value

_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class Page:
    """Which of the merged rows to show; `limit` is None for all that follow `offset`."""

    offset: int = 0
    limit: int | None = None

    @property
    def ends(self) -> int | None:
        """How many rows are needed of each shard; None for all."""
        return None if self.limit is None else self.offset + self.limit

    def __bool__(self) -> bool:
        return self != EVERYTHING


EVERYTHING = Page()


class Given:
    """The values of parameters: those given to the execution, to the statement, its own."""

    def __init__(self, statement: Any, params: Mapping[str, Any] | None) -> None:
        self._statement = statement
        self._params = params or {}
        self._known: Mapping[str, Any] | None = None

    def value(self, bind: BindParameter[Any]) -> Any:
        """Return the value of `bind` in this execution."""
        if bind.key in self._params:
            return self._params[bind.key]
        if self._known is None:
            self._known = cache_key(self._statement)[2]
        if bind.key in self._known:
            return self._known[bind.key]
        if bind.required:
            raise InexactError(f"the parameter {bind.key!r} has no value yet")
        try:
            return plain_value(bind)
        except RoutingError as error:
            raise InexactError(error.what) from error


def page_of(select: Any, given: Given) -> Page:
    """Return the page that `select` shows."""
    options = select._fetch_clause_options or {}
    if select._fetch_clause is not None and (options.get("with_ties") or options.get("percent")):
        raise InexactError("FETCH with ties or percent")
    offset = _number(select._offset_clause, "OFFSET", given)
    limit = _number(select._limit_clause, "LIMIT", given)
    if limit is None:
        limit = _number(select._fetch_clause, "FETCH", given)
    return Page(offset or 0, limit)


def _number(clause: Any, what: str, given: Given) -> int | None:
    if clause is None:
        return None
    if not isinstance(clause, BindParameter):
        raise InexactError(f"{what} is an expression")
    value = given.value(clause)
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise InexactError(f"{what} is not a plain number")
    return value


def unpaged(select: Select[Any]) -> Select[Any]:
    """Return `select` without LIMIT, OFFSET and FETCH."""
    return select.limit(None).offset(None)


def first_rows(select: Select[Any], count: int | None) -> Select[Any]:
    """Return `select` for its first `count` rows; None for all."""
    return unpaged(select).limit(count)
