"""Which queries have no effect, and the same answer on every copy of the data."""

from __future__ import annotations

from router.hooks.trace import Trace
from router.route.texts import is_plain_value
from router.route.transparency import AGGREGATES, MERGEABLE_FUNCTIONS, ROW_FUNCTIONS

# Built into databases, without effects, and independent of the server and its sessions.
_FURTHER = frozenset(
    "array_agg array_length ascii btrim cardinality cast char chr corr count_if covar_pop "
    "covar_samp cube current_date current_time current_timestamp date date_add date_format "
    "date_part date_sub date_trunc datediff datetime day dayofmonth dayofweek dayofyear decode "
    "degrees encode exp extract field find_in_set format generate_series group_concat grouping "
    "grouping_sets hex hour if ifnull iif initcap instr isnull json_agg json_array "
    "json_array_length json_build_array json_build_object json_contains json_each json_extract "
    "json_group_array json_group_object json_length json_object json_object_agg json_type "
    "json_unquote json_value jsonb_agg jsonb_array_elements jsonb_array_elements_text "
    "jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_extract_path "
    "jsonb_extract_path_text jsonb_object_agg jsonb_typeof julianday last_day lcase least ln "
    "localtime localtimestamp locate log log10 log2 make_date make_interval md5 microsecond mid "
    "minute mode month now percentile_cont percentile_disc pi plainto_tsquery position quarter "
    "radians regexp_match regexp_replace repeat rollup row_to_json second sha1 sha2 sin cos tan "
    "split_part std stddev stddev_pop stddev_samp strftime string_agg string_to_array "
    "substring_index time timediff timestampdiff to_char to_date to_json to_jsonb to_number "
    "to_timestamp to_tsquery to_tsvector total translate truncate ts_rank ucase unhex unicode "
    "unnest utc_date utc_time utc_timestamp var_pop var_samp variance websearch_to_tsquery week "
    "weekday weight_string year yearweek".split()
)
_OPERATORS = frozenset(
    "= <> != < > <= >= + - * / % ^ & | # ~ ~* !~ !~* << >> || @> <@ && -> ->> #> #>> ? ?| ?& @@ @? "
    "&< &> -|- <-> ^@ like ilike regexp rlike glob div mod xor <=>".split()
)
_KNOWN = ROW_FUNCTIONS | AGGREGATES | MERGEABLE_FUNCTIONS | _FURTHER


def is_harmless(trace: Trace) -> bool:
    """Return whether a query that was read can be sent to a copy of its database.

    Not if it locks rows, which is for the caller to see; nor if it has a function or operator
    that is not known here, or text: each could do anything.
    """
    if trace.writes or trace.opaque or trace.functions - _KNOWN:
        return False
    operators = {one.strip().lower() for one in trace.custom}
    return operators <= _OPERATORS and all(map(is_plain_value, trace.texts))
