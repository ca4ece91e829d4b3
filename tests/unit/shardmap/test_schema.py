"""The JSON Schema in config/."""

from __future__ import annotations

import json
from pathlib import Path

from router.shardmap.functions.registry import BUILT_IN
from router.shardmap.schema import Map, json_schema, main

FILE = Path(__file__).parents[3] / "config" / "shards.schema.json"


def test_the_file_is_up_to_date() -> None:
    """`python -m router.shardmap.schema` writes it anew."""
    assert json.loads(FILE.read_text(encoding="utf-8")) == json_schema()


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    """The command and the file agree byte for byte."""
    main(str(tmp_path / "schema.json"))
    assert (tmp_path / "schema.json").read_bytes() == FILE.read_bytes()


def test_it_has_every_key_and_every_function() -> None:
    """Editors complete what the loader takes."""
    schema = json_schema()
    assert schema["properties"].keys() == Map.model_fields.keys()
    variants = schema["$defs"]["Sharding"]["anyOf"]
    assert len(variants) == len(BUILT_IN) + 1
    for name, built_in in BUILT_IN.items():
        properties = schema["$defs"][f"Sharding_{name}"]["properties"]
        assert properties["function"] == {"const": name}
        assert properties.keys() == {"function", "null_shard", *built_in.options.model_fields}


def test_every_reference_in_it_resolves() -> None:
    """No definition was forgotten."""
    schema = json_schema()
    text = json.dumps(schema)
    references = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert references == schema["$defs"].keys()


def test_unknown_keys_are_errors_in_editors_too() -> None:
    """All mappings with fixed keys are closed, apart from custom functions."""
    definitions = json_schema()["$defs"]
    open_ones = {
        name
        for name, definition in definitions.items()
        if "properties" in definition and definition.get("additionalProperties") is not False
    }
    assert open_ones == {"Sharding_custom"}
