"""The one table of sharding functions, and the way for users to add theirs.

A name is looked for in the table, then among those registered from Python, then among
the entry points of the group ``router.sharding_functions``, which are imported only
when they are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from router.shardmap.findings import shown, suggestion
from router.shardmap.functions import directory, modulo
from router.shardmap.functions import hash as hash_function
from router.shardmap.functions import list as list_function
from router.shardmap.functions import range as range_function
from router.shardmap.functions.building import Builder, Complaint, OptionsError, Site
from router.shardmap.functions.protocol import ShardingFunction
from router.shardmap.messages import explain
from router.shardmap.strict import Strict

GROUP = "router.sharding_functions"


class BuiltIn(NamedTuple):
    """A function of this library: what makes it, and what its options look like."""

    build: Builder
    options: type[Strict]


BUILT_IN: Mapping[str, BuiltIn] = {
    "hash": BuiltIn(hash_function.build, hash_function.HashOptions),
    "modulo": BuiltIn(modulo.build, modulo.ModuloOptions),
    "range": BuiltIn(range_function.build, range_function.RangeOptions),
    "list": BuiltIn(list_function.build, list_function.ListOptions),
    "directory": BuiltIn(directory.build, directory.DirectoryOptions),
}

_registered: dict[str, Builder] = {}


def register_sharding_function(name: str, builder: Builder) -> None:
    """Let maps loaded from now on say ``function: name``.

    Parameters
    ----------
    builder:
        Called with the options (everything beside `function:` and `null_shard:`) and
        the `Site`; returns an object with ``shard_of(key)``.  A `ValueError` it raises
        becomes a problem of the map.

    Raises
    ------
    ValueError
        If the name is taken: a map must not change its meaning by the order of imports.
    """
    if name in BUILT_IN or _registered.get(name, builder) is not builder:
        raise ValueError(f"there is already a sharding function called {name!r}")
    _registered[name] = builder


def build_function(spec: Mapping[str, Any], site: Site) -> ShardingFunction:
    """Make the function that a `sharding:` (or `place:`) describes.

    Raises
    ------
    OptionsError
        If there is no such function, or its options are wrong.
    """
    name = spec.get("function")
    options = {key: value for key, value in spec.items() if key != "function"}
    if not isinstance(name, str):
        raise OptionsError([Complaint("R105", (), "`function` is missing")])
    builder = _find(name)
    if name in BUILT_IN:
        return builder(options, site)
    return _build_custom(name, builder, options, site)


def _find(name: str) -> Builder:
    if name in BUILT_IN:
        return BUILT_IN[name].build
    if name in _registered:
        return _registered[name]
    points = entry_points(group=GROUP)
    if name not in points.names:
        known = [*BUILT_IN, *_registered, *points.names]
        what = f"there is no sharding function {shown(name)}{suggestion(name, known)}"
        raise OptionsError([Complaint("R116", ("function",), what)])
    try:
        builder: Builder = points[name].load()
    except Exception as error:  # noqa: BLE001  third-party code may raise anything on import
        what = f"the sharding function {shown(name)} cannot be imported: {type(error).__name__}"
    else:
        return builder
    raise OptionsError([Complaint("R116", ("function",), what)])


def _build_custom(
    name: str, builder: Builder, options: Mapping[str, Any], site: Site
) -> ShardingFunction:
    try:
        function = builder(options, site)
    except OptionsError:
        raise
    except ValidationError as error:
        raise OptionsError(explain(error, BaseModel)) from None
    except Exception as error:  # noqa: BLE001  third-party code, as above
        # Only a ValueError is meant for the reader of the map.
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} raised"
        what = f"the sharding function {shown(name)} refuses its options: {said}"
    else:
        if callable(getattr(function, "shard_of", None)):
            return function
        what = f"the sharding function {shown(name)} made something without `shard_of`"
    raise OptionsError([Complaint("R116", ("function",), what)])
