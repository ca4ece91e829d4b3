"""The column of a copied table that says from which shard each of its rows is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Join, Table, Text, column
from sqlalchemy.orm import Mapper

from router.errors import CrossShardError
from router.route.environment import layers

LABEL = "router_shard"


def label_of(entity: Any) -> Any:
    """Return the column with the shard of an inspected class or alias."""
    mapper: Mapper[Any] = entity.mapper
    if entity is not mapper and len(mapper.tables) > 1:
        what = f"an alias of {mapper.class_.__name__}, whose rows are spread over several tables"
        raise CrossShardError("R306", what)
    if not isinstance(layers(entity.selectable)[-1], (Table, Join)):
        what = f"objects of {mapper.class_.__name__} out of a subquery do not show their shard"
        raise CrossShardError("R306", what, fix="select the columns of the subquery instead")
    found: Any = column(LABEL, Text())
    found.table = mapper.base_mapper.local_table if entity is mapper else entity.selectable
    return found
