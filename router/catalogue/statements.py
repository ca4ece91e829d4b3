"""The ids of errors in maps and statements: R1xx to R3xx."""

from __future__ import annotations

from router.catalogue.entry import Entry

STATEMENTS: dict[str, Entry] = {
    # -- the shard map ------------------------------------------------------------------
    "R101": Entry(
        "the map cannot be read",
        "check the path, the permissions, the encoding (UTF-8) and the size (1 MiB)",
    ),
    "R102": Entry(
        "not YAML that a map can be made of",
        "correct the YAML at the place named",
    ),
    "R103": Entry(
        "a key that is there twice",
        "keep one of the two",
    ),
    "R104": Entry(
        "an unknown key",
        "correct its spelling, or take it out",
    ),
    "R105": Entry(
        "a missing key",
        "add the key",
    ),
    "R106": Entry(
        "a value of the wrong type",
        "write a value of the type named",
    ),
    "R107": Entry(
        "an environment variable that is not set",
        "set it, or give a default: `${NAME:-default}`; a plain `${` is written `$${`",
    ),
    "R108": Entry(
        "a URL that cannot be used",
        "write dialect+driver://user:password@host:port/database, special characters as %XX",
    ),
    "R109": Entry(
        "a name with characters that names do not have",
        "use letters, digits, `_`, `-` and `.`, at most 64 of them",
    ),
    "R110": Entry(
        "no such database",
        "name a database of `databases:`, or add it there",
    ),
    "R111": Entry(
        "no such keyspace",
        "name a keyspace of `keyspaces:`, or add it there",
    ),
    "R112": Entry(
        "no such shard",
        "name a shard of this keyspace's `shards:`, or add it there",
    ),
    "R113": Entry(
        "a table with two homes",
        "list the table once",
    ),
    "R114": Entry(
        "two shards in one database",
        "give every shard of the keyspace a database of its own",
    ),
    "R115": Entry(
        "databases of different dialects",
        "keep a keyspace, and a database and its replicas, to one dialect",
    ),
    "R116": Entry(
        "a sharding function that cannot be used",
        "use a built-in function, or register your own under this name",
    ),
    "R117": Entry(
        "buckets without exactly one shard",
        "assign every bucket from 0 to `buckets` - 1 to one shard",
    ),
    "R118": Entry(
        "ranges or lists of keys that are not clear",
        "give every key one place: ascending ranges, lists without repetition, one type",
    ),
    "R119": Entry(
        "a function that cannot take these keys",
        "use `hash`, which takes every key, or keys that the function takes",
    ),
    "R120": Entry(
        "shard keys that do not match",
        "give all tables of the keyspace a shard key of the same columns",
    ),
    "R121": Entry(
        "a shard key column that the table does not have",
        "name a column of the table",
    ),
    "R122": Entry(
        "a column type that cannot be a shard key",
        "use an integer, decimal, text, UUID, date, timestamp or bytes column",
    ),
    "R123": Entry(
        "shard key columns of different types",
        "give the key columns of all tables of the keyspace one type",
    ),
    "R124": Entry(
        "metadata that was not given",
        "pass it: Router.from_yaml(..., metadata={name: MetaData})",
    ),
    "R125": Entry(
        "a table that the metadata does not have",
        "correct its spelling",
    ),
    "R126": Entry(
        "a database without an asyncio driver",
        "pip install 'sqlalchemy-router[asyncio]', which has one for every kind of database",
    ),
    "R127": Entry(
        "a `unique:` entry that cannot be kept",
        "name columns of a sharded table, and an unsharded keyspace of the same dialect",
    ),
    "R128": Entry(
        "replicas that cannot be used as the map has them",
        "list copies of the database on other servers, and limits that they can keep",
    ),
    # -- routing ------------------------------------------------------------------------
    "R201": Entry(
        "nothing binds this to a keyspace",
        "list the table under a keyspace or under `binds:`, or set `binds: {default: ...}`",
    ),
    "R202": Entry(
        "no shard key",
        "name the shard: filter by the shard key, or pass "
        'bind_arguments={"shard": "keyspace/shard"}, or use session.partition(key)',
    ),
    "R203": Entry(
        "the shard key changes",
        "change the key of the object and flush, or delete the row and insert it anew",
    ),
    "R204": Entry(
        "a key of the wrong type",
        "pass a value of the shard key column's own type",
    ),
    "R205": Entry(
        "a NULL shard key",
        "give the row its key, or name a `null_shard:` for the keyspace",
    ),
    "R206": Entry(
        "no such keyspace, shard or database",
        "use a name that the map has",
    ),
    "R207": Entry(
        "the key belongs to no shard",
        "extend the ranges or lists of the keyspace so that they cover this key",
    ),
    "R208": Entry(
        "outside the session's partition",
        "leave the `with session.partition(...)` block first, or use another session",
    ),
    "R209": Entry(
        "mappers of one table are bound to different keyspaces",
        "bind the table itself, or bind all of its classes to one keyspace",
    ),
    "R210": Entry(
        "a partition that has to ask a directory",
        "write `async with session.partition(...)`",
    ),
    "R211": Entry(
        "a lookup table that is not there",
        "create it: `router create-all`, or `Router.create_all()`",
    ),
    "R212": Entry(
        "no such unique key",
        "name an entry of `unique:`, and the metadata that has its table",
    ),
    "R213": Entry(
        "a session that is to be bound beside its map",
        "write it under `binds:`, or make the session with `binds=`, without routing",
    ),
    "R214": Entry(
        "a statement beside rows that MySQL or MariaDB are still sending",
        "fetch or close the result before, or leave out `yield_per` and `stream_results`",
    ),
    "R215": Entry(
        "what a guarded partition does not let through",
        "restrict it to the key of the partition, or say that it may see other rows: "
        'execution_options={"unguarded": True}',
    ),
    "R216": Entry(
        "no such role",
        'say "primary" or "replica"',
    ),
    "R217": Entry(
        "a token that cannot be read",
        "pass what `session.token()` gave, unchanged, or nothing",
    ),
    "R218": Entry(
        "a replica that is behind",
        "look at why it does not replay; until it does, reads go elsewhere",
    ),
    # -- across shards ------------------------------------------------------------------
    "R301": Entry(
        "a read over several shards that is not a plain SELECT",
        "restrict every table to one shard key, or select plain rows and merge them yourself",
    ),
    "R302": Entry(
        "tables that are not colocated",
        "join the tables on equal shard keys, or read them one after another",
    ),
    "R303": Entry(
        "tables of several databases in one statement",
        "read them one after another, or move the tables to one keyspace",
    ),
    "R304": Entry(
        "a statement whose tables cannot be seen",
        'say where it goes: bind_arguments={"keyspace": ..., "shard_key": ...} or {"shard": ...}',
    ),
    "R305": Entry(
        "a write over several shards",
        "read what is needed first and write by shard key, or change the objects and flush",
    ),
    "R306": Entry(
        "the same primary key on several shards",
        'say which one: session.get(..., bind_arguments={"shard": "keyspace/shard"})',
    ),
    "R307": Entry(
        "the copies of a reference table differ",
        "roll back and bring the copies in step",
    ),
    "R308": Entry(
        "a write to a reference table that could differ from copy to copy",
        "give every column a plain value, or add the objects to the session and flush",
    ),
    "R309": Entry(
        "a statement over several shards is forbidden",
        "filter by the shard key, or set `scatter: allow`",
    ),
    "R310": Entry(
        "too many rows to gather",
        "restrict the tables by their keys or other columns, or raise `gather: {max_rows: ...}`",
    ),
    "R311": Entry(
        "a write that failed on one of its shards",
        "roll back: the session, or the savepoint that the write was made in",
    ),
    "R312": Entry(
        "rows that changed between being found and being written",
        "do the transaction again, as `router.retry()` does",
    ),
    "R313": Entry(
        "a write that a lookup table cannot follow",
        "change the objects in the session and flush, or write rows by their keys",
    ),
}
