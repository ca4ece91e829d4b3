"""The functions of PostgreSQL, MySQL, MariaDB and SQLite of which something is known."""

from __future__ import annotations

from router.route.transparency import AGGREGATES, MERGEABLE_FUNCTIONS, ROW_FUNCTIONS

_OF_NUMBERS = (
    "acos asin atan atan2 cbrt cos cot degrees div exp factorial gcd ln log log10 log2 lcm pi pow "
    "radians sin tan trunc truncate width_bucket crc32 conv bin hex oct unhex format"
)
_OF_TEXT = (
    "ascii bit_length btrim char chr elt field find_in_set initcap insert instr lcase locate "
    "md5 mid ord overlay position printf quote repeat rpad sha1 sha2 sha256 soundex space "
    "split_part starts_with strcmp string_to_array substring_index to_char to_hex to_number "
    "translate ucase unaccent unicode unistr glob like regexp_like regexp_replace regexp_substr "
    "regexp_instr regexp_match regexp_split_to_array regexp_count convert convert_from convert_to "
    "encode decode quote_literal quote_nullable quote_ident similarity weight_string"
)
_OF_TIMES = (
    "adddate addtime age current_date current_time current_timestamp curdate curtime date date_add "
    "date_bin date_format date_part date_sub date_trunc datediff datetime day dayname dayofmonth "
    "dayofweek dayofyear extract from_days from_unixtime hour isfinite julianday last_day "
    "localtime localtimestamp make_date make_interval make_time make_timestamp make_timestamptz "
    "makedate maketime microsecond minute month monthname now period_add period_diff quarter "
    "sec_to_time second statement_timestamp str_to_date strftime subdate subtime sysdate time "
    "time_format time_to_sec timediff timestamp timestampadd timestampdiff timezone to_date "
    "to_days to_seconds to_timestamp transaction_timestamp clock_timestamp unix_timestamp "
    "unixepoch utc_date utc_time utc_timestamp week weekday weekofyear year yearweek"
)
_OF_VALUES = (
    "if ifnull iif isnull nvl num_nonnulls num_nulls typeof pg_typeof cast row interval array "
    "any all some binary uuid gen_random_uuid uuid_generate_v4 uuidv4 uuidv7 rand random "
    "randomblob zeroblob cube grouping rollup grouping_sets least"
)
_OF_GROUPS = (
    "any_value array_agg bit_and bit_or bit_xor corr covar_pop covar_samp group_concat json_agg "
    "json_arrayagg json_group_array json_group_object json_object_agg json_objectagg jsonb_agg "
    "jsonb_object_agg median mode percentile_cont percentile_disc regr_slope std stddev "
    "stddev_pop stddev_samp string_agg total var_pop var_samp variance aggregate_strings count_if"
)
_OF_DOCUMENTS = (
    "array_append array_cat array_length array_position array_positions array_prepend "
    "array_remove array_replace array_to_json array_to_string array_upper array_lower cardinality "
    "generate_series generate_subscripts json json_array json_array_elements "
    "json_array_elements_text json_array_length json_build_array json_build_object json_contains "
    "json_contains_path json_each json_each_text json_extract json_extract_path "
    "json_extract_path_text json_insert json_keys json_length json_merge_patch "
    "json_merge_preserve json_object json_object_keys json_overlaps json_patch json_quote "
    "json_remove json_replace json_search json_set json_strip_nulls json_table json_tree "
    "json_type json_typeof json_unquote json_valid json_value jsonb jsonb_array_elements "
    "jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each "
    "jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object_keys "
    "jsonb_path_exists jsonb_path_query_array jsonb_path_query_first jsonb_set jsonb_strip_nulls "
    "jsonb_typeof row_to_json to_json to_jsonb trim_array unnest to_tsvector to_tsquery "
    "plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd ts_headline"
)

BUILT_IN = (
    ROW_FUNCTIONS
    | AGGREGATES
    | MERGEABLE_FUNCTIONS
    | frozenset(
        " ".join((_OF_NUMBERS, _OF_TEXT, _OF_TIMES, _OF_VALUES, _OF_GROUPS, _OF_DOCUMENTS)).split()
    )
)
"""Functions of the databases that look at nothing but their arguments, and change nothing."""

SEEDED = frozenset("rand random randomblob".split())
"""Those among them whose values depend on what their session was told before."""
