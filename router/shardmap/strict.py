"""What all parts of the schema share: strictness, names, and scalars that can be keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, WithJsonSchema

from router.shardmap.functions.building import OptionsError
from router.shardmap.messages import explain

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
"""A database, keyspace, shard or function; without ``/``, which joins keyspace and shard."""

Scalar = Annotated[Any, WithJsonSchema({"type": ["integer", "number", "string"]})]
"""A shard key value as a file can write it; `router.shardmap.keys.normalise` judges it."""


class Strict(BaseModel):
    """A mapping of the file: known keys only, and no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


StrictT = TypeVar("StrictT", bound=Strict)


def parse_options(model: type[StrictT], options: Mapping[str, Any]) -> StrictT:
    """Validate the options of a sharding function.

    Raises
    ------
    OptionsError
        With a complaint for each thing that `model` does not allow.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        complaints = explain(error, model)
    # Outside of the handler: the validator's error quotes values, which may be secret.
    raise OptionsError(complaints)
