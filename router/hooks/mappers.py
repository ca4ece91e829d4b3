"""Every mapper there is, and what the ORM says of a statement's origin.

Leans on `sqlalchemy.orm.mapperlib._all_registries`, the `_pks_by_table` of mappers, the
`_propagate_attrs` of statements and the load options that loaders pass along.  Checked against
2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Table
from sqlalchemy.orm import InstanceState, Mapper, mapperlib


def all_mappers() -> Iterator[Mapper[Any]]:
    """Yield every mapper of every declarative base and registry in the process."""
    for registry in mapperlib._all_registries():
        yield from registry.mappers


def subject_of(statement: Any) -> Mapper[Any] | None:
    """Return the mapper that an ORM statement is about, or None for a Core statement."""
    subject = getattr(statement, "_propagate_attrs", {}).get("plugin_subject")
    return getattr(subject, "mapper", None)


def tables_of(mapper: Mapper[Any] | None) -> list[Table]:
    """Return every table that a row of `mapper` is spread over, parents first."""
    if mapper is None:
        return []
    return [table for table in mapper.tables if isinstance(table, Table)]


def naming_columns(mapper: Mapper[Any], table: Table) -> tuple[Column[Any], ...]:
    """Return the columns of a table by which a flush names the row of an object."""
    columns: Any = mapper._pks_by_table.get(table, ())
    return tuple(columns)


def is_named_by(mapper: Mapper[Any], table: Table, names: Iterable[str]) -> bool:
    """Return whether a flush names rows in a table by columns of some names, among others."""
    return {one.name for one in naming_columns(mapper, table)}.issuperset(names)


def setting_names(mapper: Mapper[Any] | None, column: Column[Any]) -> tuple[str, ...]:
    """Return the names of attributes by which a row in bulk may set `column` among others.

    Of what a hybrid attribute does with such a row nothing is known.
    """
    if mapper is None:
        return ()
    found = _setting.get(mapper)
    if found is None:
        found = _setting[mapper] = dict(_setting_attributes(mapper))
    if not found:
        return ()
    return tuple([name for name, some in found.items() if some is None or column in some])


_setting: WeakKeyDictionary[Mapper[Any], dict[str, frozenset[Any] | None]] = WeakKeyDictionary()


def _setting_attributes(mapper: Mapper[Any]) -> Iterator[tuple[str, frozenset[Any] | None]]:
    """Yield the attributes of a mapper that set others, with their columns if these are known."""
    for one in mapper.composites:
        yield one.key, frozenset(column for part in one.props for column in part.columns)
    for name, hybrid in mapper.all_orm_descriptors.items():
        if getattr(hybrid, "bulk_dml_setter", None) is not None:
            yield name, None


def is_orm(statement: Any) -> bool:
    """Return whether the ORM compiles and loads `statement`."""
    attrs = getattr(statement, "_propagate_attrs", {})
    return attrs.get("compile_state_plugin") == "orm"


def identity_token_of(execution_options: Mapping[str, Any]) -> Any:
    """Return the identity token a statement is executed for, by a loader or by its user."""
    options = execution_options.get("_sa_orm_load_options")
    token = getattr(options, "_identity_token", None)
    return execution_options.get("identity_token") if token is None else token


def loaded_from(execution_options: Mapping[str, Any]) -> InstanceState[Any] | None:
    """Return the object for whose relationship a lazy loader executes a statement."""
    options = execution_options.get("_sa_orm_load_options")
    state: InstanceState[Any] | None = getattr(options, "_lazy_loaded_from", None)
    return state


def works_for_a_row(execution_options: Mapping[str, Any]) -> bool:
    """Return whether a loader executes a statement for a certain row or shard."""
    options = execution_options.get("_sa_orm_load_options")
    if options is None:
        return "identity_token" in execution_options
    return (
        options._lazy_loaded_from is not None
        or options._identity_token is not None
        or "identity_token" in execution_options
    )


def loading_parent(statement: Any) -> Mapper[Any] | None:
    """Return the mapper for whose relationship an eager loader executes `statement`."""
    path = getattr(getattr(statement, "_compile_options", None), "_current_path", None)
    for element in reversed(getattr(path, "path", ())):
        parent = getattr(element, "parent", None)
        if isinstance(parent, Mapper) and hasattr(element, "direction"):
            return parent
    return None
