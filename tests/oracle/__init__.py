"""Generated statements, each on the shards and on one database, compared strictly."""
