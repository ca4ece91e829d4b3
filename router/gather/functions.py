"""Functions whose result depends on more than what a statement gives them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, text

from router.errors import CrossShardError
from router.route.transparency import AGGREGATES, MERGEABLE_FUNCTIONS, ROW_FUNCTIONS

_KNOWN = ROW_FUNCTIONS | AGGREGATES | MERGEABLE_FUNCTIONS

_STATEFUL = frozenset(
    # sequences and what was written last
    "nextval currval setval lastval last_insert_id last_insert_rowid changes total_changes "
    "row_count found_rows "
    # locks and settings of one server
    "get_lock release_lock release_all_locks is_free_lock is_used_lock set_config pg_notify "
    # tables that are not seen
    "query_to_xml table_to_xml cursor_to_xml schema_to_xml database_to_xml dblink load_extension "
    "load_file pg_relation_size pg_table_size pg_total_relation_size pg_indexes_size".split()
)

_DEFINED = {
    # Only an immutable function promises to read no table.
    "postgresql": "SELECT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n "
    "ON n.oid = p.pronamespace WHERE lower(p.proname) IN :names "
    "AND n.nspname <> 'pg_catalog' AND p.provolatile <> 'i'",
    "mysql": "SELECT routine_name FROM information_schema.routines "
    "WHERE lower(routine_name) IN :names AND routine_type = 'FUNCTION'",
}


def check_functions(connection: Connection, names: Collection[str]) -> None:
    """Raise `CrossShardError` if a function may see other rows here than in one database."""
    unknown = {name.rpartition(".")[2] for name in names} - _KNOWN
    wrong = {name for name in unknown if name in _STATEFUL or name.startswith("pg_advisory")}
    if unknown - wrong and connection.dialect.name in _DEFINED:
        query = text(_DEFINED[connection.dialect.name])
        query = query.bindparams(bindparam("names", expanding=True))
        wrong |= set(connection.execute(query, {"names": sorted(unknown)}).scalars())
    if wrong:
        what = f"the function {min(wrong)}() may see other rows where tables are gathered"
        fix = "restrict the statement to one shard, or call the function on its own"
        raise CrossShardError("R301", what, fix=fix)
