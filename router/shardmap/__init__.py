"""The shard map: YAML -> frozen values, and the sharding functions.

Nothing is imported here: a program that only passes a map along pays for neither
the YAML parser nor the validator.

==================  ===================================================================
`model`             the frozen values
`load`              a file, text or dict -> `model.ShardMap`, or every problem at once
`check`             the map against SQLAlchemy metadata
`keys`              key types, normalisation, the canonical form
`functions`         one sharding function a file
`schema`            what the YAML may say, and its JSON Schema
==================  ===================================================================
"""
