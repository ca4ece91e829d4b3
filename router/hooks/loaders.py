"""What the ORM's own loaders say of the row and the relationship they work for.

Leans on the `_lazy_loaded_from`, `_refresh_state`, `_autoflush` and `_identity_token` of the load
options that loaders pass along, on `sa_top_level_orm_context`, by which an eager loader names the
query that it works for, on `QueryContext.default_load_options` and on `_current_path`.
Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import InstanceState, RelationshipProperty
from sqlalchemy.orm.context import QueryContext
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.orm.util import LoaderCriteriaOption


def _load_options(execution_options: Mapping[str, Any]) -> Any:
    return execution_options.get("_sa_orm_load_options")


def loaded_for(execution_options: Mapping[str, Any]) -> InstanceState[Any] | None:
    """Return the object whose relationship a lazy loader loads, or None."""
    options = _load_options(execution_options)
    found: InstanceState[Any] | None = getattr(options, "_lazy_loaded_from", None)
    return found


def refreshed(execution_options: Mapping[str, Any]) -> InstanceState[Any] | None:
    """Return the object whose own row is loaded again, or None."""
    options = _load_options(execution_options)
    found: InstanceState[Any] | None = getattr(options, "_refresh_state", None)
    return found


def token_of(statement: Any, execution_options: Mapping[str, Any]) -> Any:
    """Return the identity token that `statement` is executed for, or None.

    It is given by `get()`, by the query that an eager loader works for, or by the user.
    """
    options = _load_options(execution_options)
    token = getattr(options, "_identity_token", None)
    if token is None:
        token = execution_options.get("identity_token")
    if token is None:
        outer = execution_options.get("sa_top_level_orm_context")
        token = getattr(getattr(outer, "load_options", None), "_identity_token", None)
    if token is None:
        token = getattr(statement, "_execution_options", {}).get("identity_token")
    return token


def loading_options(token: str, execution_options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the execution options with which rows that a write returns get `token`."""
    options: Any = _load_options(execution_options) or QueryContext.default_load_options
    return {"_sa_orm_load_options": options + {"_identity_token": token}}


def statement_options(statement: Any) -> Mapping[str, Any]:
    """Return the execution options that `statement` itself carries."""
    return getattr(statement, "_execution_options", {})


def autoflushes(statement: Any, execution_options: Mapping[str, Any]) -> bool:
    """Return whether executing a query flushes first, if its session does that at all."""
    options: Any = _load_options(execution_options) or QueryContext.default_load_options
    given = {**statement_options(statement), **execution_options}
    return bool(given.get("autoflush", options._autoflush))


def works_for_a_row(statement: Any, execution_options: Mapping[str, Any]) -> bool:
    """Return whether a loader executes `statement` for a certain object or shard."""
    options = _load_options(execution_options)
    if options is not None and len(execution_options) == 1 and not statement._execution_options:
        # What `get()` passes; asked so often that nothing is looked up twice.
        return (
            options._identity_token is not None
            or options._lazy_loaded_from is not None
            or options._refresh_state is not None
        )
    return (
        loaded_for(execution_options) is not None
        or refreshed(execution_options) is not None
        or token_of(statement, execution_options) is not None
    )


def loading_relationship(statement: Any) -> RelationshipProperty[Any] | None:
    """Return the relationship that a lazy or eager loader executes `statement` for."""
    path = getattr(getattr(statement, "_compile_options", None), "_current_path", None)
    for element in reversed(getattr(path, "path", ())):
        if isinstance(element, RelationshipProperty):
            return element
    return None


def with_options(statement: Any, *options: Any) -> Any:
    """Return a copy of `statement` with these options for its loaders, and no other ones.

    Criteria that apply to whole classes are kept.
    """
    copy = statement._generate()
    kept = [one for one in statement._with_options if isinstance(one, LoaderCriteriaOption)]
    copy._with_options = (*kept, *(one for one in options if one not in kept))
    return copy


def loaded_like(query: Any, statement: Any, mapper: Any) -> Any:
    """Return `query`, for objects of `mapper`, with the loader options of `statement`.

    A loader's statement stands at some place in a tree of relationships, which its options
    start from.
    """
    options = [one for one in statement._with_options if _is_about(one, mapper, statement)]
    copy = with_options(query, *options)
    options_of_loader = getattr(statement, "_compile_options", None)
    place = getattr(options_of_loader, "_current_path", None)
    if place:
        copy._compile_options = type(options_of_loader) + {"_current_path": place}  # type: ignore[operator]
    return copy


def _is_about(option: Any, mapper: Any, statement: Any) -> bool:
    if getattr(getattr(statement, "_compile_options", None), "_current_path", None):
        return True
    path = getattr(option, "path", None)
    root = getattr(path[0], "mapper", None) if path else None
    return root is None or root.isa(mapper) or mapper.isa(root)


def eager_options(statement: Any) -> Iterator[Any]:
    """Yield the options that find related objects in the rows of the statement itself."""
    for option in getattr(statement, "_with_options", ()):
        for element in getattr(option, "context", None) or ():
            if "eager_from_alias" in (getattr(element, "local_opts", None) or {}):
                yield option


def is_many_to_one(relationship: RelationshipProperty[Any]) -> bool:
    """Return whether the foreign key of `relationship` is on its parent's side."""
    return relationship.direction is MANYTOONE
